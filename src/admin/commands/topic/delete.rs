//! deleteTopic: from the brokers of a cluster, and from all name servers.

use clap::Args;
use serde_json::json;

use super::super::{Session, brokers};
use crate::{
    admin::{
        cli::trimmed,
        client::{AdminClient, ORDER_TOPIC_CONFIG},
        error::Error,
        output::Told,
    },
    protocol::codes::ResponseCode,
};

/// Flags of deleteTopic.
#[derive(Debug, Args)]
pub(in crate::admin) struct DeleteTopic {
    /// name of the topic
    #[arg(short, long, value_parser = trimmed)]
    topic: String,
    /// from the brokers of this cluster
    #[arg(short, long = "clusterName", value_parser = trimmed)]
    cluster: String,
}

/// Deletes a topic.
pub(in crate::admin) async fn delete(
    session: &mut Session<'_>,
    args: &DeleteTopic,
) -> Result<(), Error> {
    let DeleteTopic { topic, cluster } = args;
    delete_everywhere(session, topic, cluster).await?;
    let text = format!(
        "delete topic [{topic}] from cluster [{cluster}] success.\n\
         delete topic [{topic}] from NameServer success.\n"
    );
    session.out.show(&Told::new(text, json!({ "topic": topic, "clusterName": cluster })))
}

/// From the leaders, which must do it; from others, as slaves of Java's brokers, which keep it
/// otherwise, while followers refuse and hear of it anyway; and then from the name servers, which
/// would learn the topic again otherwise.
pub(in crate::admin::commands) async fn delete_everywhere(
    session: &mut Session<'_>,
    topic: &str,
    cluster: &str,
) -> Result<(), Error> {
    let place = brokers::Where { broker: None, cluster: Some(cluster.to_owned()) };
    let leaders = brokers::leaders(session, &place).await?;
    let delete = async |admin: &AdminClient, broker: &str| admin.delete_topic(broker, topic).await;
    brokers::on_each(session, leaders, delete).await?;
    for member in brokers::members(session, &place).await?.iter().filter(|member| !member.leads) {
        match session.admin.delete_topic(&member.address, topic).await {
            Err(error) if error.code() != Some(ResponseCode::SERVICE_NOT_AVAILABLE) => {
                session.out.remark(&error);
            }
            Ok(_) | Err(_) => {}
        }
    }
    session.admin.forget_topic(topic, cluster).await?;
    session.admin.delete_kv_config(ORDER_TOPIC_CONFIG, topic).await
}
