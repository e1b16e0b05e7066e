//! Who is connected: members of consumer groups and of producer groups.

use std::fmt;

use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::{Session, consumer};
use crate::{
    admin::{cli::trimmed, error::Error, output::Told},
    protocol::{
        bodies::{Connection, ConsumerConnection},
        version,
    },
};

/// Flags of consumerConnection.
#[derive(Debug, Args)]
pub(in crate::admin) struct ConsumerConnections {
    /// name of the consumer group
    #[arg(short = 'g', long = "consumerGroup", value_parser = trimmed)]
    group: String,
    /// ask this broker, host:port
    #[arg(short, long = "brokerAddr", value_parser = trimmed)]
    broker: Option<String>,
}

/// Shows the members of a consumer group and what they subscribe to.
pub(in crate::admin) async fn consumers(
    session: &mut Session<'_>,
    args: &ConsumerConnections,
) -> Result<(), Error> {
    let members = match &args.broker {
        Some(broker) => Some(session.admin.consumers(broker, &args.group).await?),
        None => {
            let brokers = consumer::brokers_of(&session.admin, &args.group, None).await?;
            let found = consumer::members_of(&session.admin, &brokers, &args.group).await?;
            found.map(|(_, members)| members)
        }
    };
    let offline = || {
        Error::Unable(format!(
            "no member of consumer group {} is connected to any broker (consumerProgress shows \
             how far the group got)",
            args.group
        ))
    };
    session.out.show(&Consumers(members.ok_or_else(offline)?))
}

#[derive(Serialize)]
#[serde(transparent)]
struct Consumers(ConsumerConnection);

impl fmt::Display for Consumers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members = &self.0;
        let [id, address, language, release] =
            ["#ClientId", "#ClientAddr", "#Language", "#Version"];
        writeln!(f, "{id:<36} {address:<22} {language:<10} {release}")?;
        for Connection { client_id, client_addr, language, version } in &members.connection_set {
            let release = version::name_of(*version);
            writeln!(f, "{client_id:<36} {client_addr:<22} {language:<10} {release}")?;
        }
        writeln!(f, "\nBelow is subscription:\n{:<20} #SubExpression", "#Topic")?;
        for subscription in members.subscription_table.values() {
            writeln!(f, "{:<20} {}", subscription.topic, subscription.sub_string)?;
        }
        writeln!(
            f,
            "\nConsumeType: {}\nMessageModel: {}\nConsumeFromWhere: {}",
            wire_name(&members.consume_type),
            wire_name(&members.message_model),
            wire_name(&members.consume_from_where)
        )
    }
}

/// The name that a constant of the protocol has on the wire.
fn wire_name(constant: &impl Serialize) -> String {
    let json = serde_json::to_value(constant).unwrap_or_default();
    json.as_str().unwrap_or_default().to_owned()
}

/// Flags of producerConnection.
#[derive(Debug, Args)]
pub(in crate::admin) struct ProducerConnections {
    /// name of the producer group
    #[arg(short = 'g', long = "producerGroup", value_parser = trimmed)]
    group: String,
    /// a topic that it sends to
    #[arg(short, long, value_parser = trimmed)]
    topic: String,
}

/// Shows the members of a producer group.
pub(in crate::admin) async fn producers(
    session: &mut Session<'_>,
    args: &ProducerConnections,
) -> Result<(), Error> {
    let route = session.admin.route(&args.topic).await?;
    // Producers connect to every broker that they send to: the first one that knows any is enough.
    let (mut found, mut failure) = (None, None);
    for address in route.broker_datas.iter().flat_map(|broker| broker.broker_addrs.values()) {
        match session.admin.producers(address, &args.group).await {
            Ok(members) => {
                found = Some(members.connection_set);
                break;
            }
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    let Some(members) = found else {
        let nobody = || Error::Unable(format!("no live broker has topic {}", args.topic));
        return Err(failure.unwrap_or_else(nobody));
    };
    session.out.show(&Producers(members))
}

#[derive(Serialize)]
#[serde(transparent)]
struct Producers(Vec<Connection>);

impl fmt::Display for Producers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, member) in self.0.iter().enumerate() {
            let Connection { client_id, client_addr, language, version } = member;
            let release = version::name_of(*version);
            let number = at + 1;
            writeln!(f, "{number:04}  {client_id:<32} {client_addr:<22} {language:<8} {release}")?;
        }
        Ok(())
    }
}

/// Flags of producer.
#[derive(Debug, Args)]
pub(in crate::admin) struct AllProducers {
    /// the broker, host:port
    #[arg(short, long, value_parser = trimmed)]
    broker: String,
}

/// Shows all producers that are connected to a broker.
pub(in crate::admin) async fn all_producers(
    session: &mut Session<'_>,
    args: &AllProducers,
) -> Result<(), Error> {
    let table = session.admin.all_producers(&args.broker).await?;
    let mut text = String::new();
    for (group, instances) in &table.data {
        if instances.is_empty() {
            text += &format!("producer group ({group}) instances are empty\n");
        }
        for one in instances {
            text += &format!(
                "producer group ({group}) instance : clientId={},remoteIP={}, language={}, \
                 version={}, lastUpdateTimestamp={}\n",
                one.client_id, one.remote_ip, one.language, one.version, one.last_update_timestamp
            );
        }
    }
    session.out.show(&Told::new(text, json!(table.data)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        admin::golden,
        protocol::bodies::{self, ConsumeFromWhere, SubscriptionData},
    };

    fn member() -> Connection {
        Connection {
            client_addr: "127.0.0.1:52414".to_owned(),
            client_id: "192.0.2.2@363#5163021081879".to_owned(),
            language: "JAVA".to_owned(),
            version: version::CURRENT,
        }
    }

    #[test]
    fn members_are_printed_as_mqadmin_does() {
        let subscriptions = ["%RETRY%please_rename_unique_group_name_4", "TopicTest"];
        let members = Consumers(ConsumerConnection {
            connection_set: vec![member()],
            consume_from_where: ConsumeFromWhere::FirstOffset,
            subscription_table: subscriptions
                .map(|topic| (topic.to_owned(), SubscriptionData::of_tags(topic, "*")))
                .into(),
            ..ConsumerConnection::default()
        });
        let want = "\
#ClientId                            #ClientAddr            #Language  #Version
192.0.2.2@363#5163021081879          127.0.0.1:52414        JAVA       V5_5_0

Below is subscription:
#Topic               #SubExpression
%RETRY%please_rename_unique_group_name_4 *
TopicTest            *

ConsumeType: CONSUME_PASSIVELY
MessageModel: CLUSTERING
ConsumeFromWhere: CONSUME_FROM_FIRST_OFFSET
";
        assert_eq!(members.to_string(), want);
        let producers = Producers(vec![member()]);
        let want =
            "0001  192.0.2.2@363#5163021081879      127.0.0.1:52414        JAVA     V5_5_0\n";
        assert_eq!(producers.to_string(), want);
    }

    #[test]
    fn what_java_answers_is_understood() {
        for name in ["admin-consumer-connection", "admin-consumer-connection-mqadmin"] {
            let members: ConsumerConnection = bodies::decode(&golden::answer(name).body).unwrap();
            assert!(Consumers(members).to_string().contains("ConsumeType: CONSUME_"), "{name}");
        }
    }
}
