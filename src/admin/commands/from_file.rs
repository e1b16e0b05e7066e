//! updateTopicList, updateSubGroupList: many topics or consumer groups at once, from a file with a
//! JSON list of their configurations. A broker takes all of a list or nothing.

use std::path::PathBuf;

use clap::Args;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{
    Session,
    brokers::{Where, leaders, on_each},
};
use crate::{
    admin::{client::AdminClient, error::Error, output::Told},
    protocol::bodies::{GroupConfigList, SubscriptionGroupConfig, TopicConfig, TopicConfigList},
};

/// Flags of both.
#[derive(Debug, Args)]
pub(in crate::admin) struct FromFile {
    #[command(flatten)]
    to: Where,
    /// file with a JSON list, in the form that topics and groups have in a broker's store
    #[arg(short, long = "filename")]
    filename: PathBuf,
}

/// Creates or changes topics.
pub(in crate::admin) async fn topics(
    session: &mut Session<'_>,
    args: &FromFile,
) -> Result<(), Error> {
    let list = TopicConfigList { topic_config_list: read::<TopicConfig>(args)? };
    let names = list.topic_config_list.iter().map(|topic| topic.topic_name.clone());
    let of = Of { what: "topic", names: names.collect() };
    submit(session, args, of, async |admin: &AdminClient, broker: &str| {
        admin.put_topics(broker, &list).await
    })
    .await
}

/// Creates or changes consumer groups.
pub(in crate::admin) async fn groups(
    session: &mut Session<'_>,
    args: &FromFile,
) -> Result<(), Error> {
    let list = GroupConfigList { group_config_list: read::<SubscriptionGroupConfig>(args)? };
    let names = list.group_config_list.iter().map(|group| group.group_name.clone());
    let of = Of { what: "subscription group", names: names.collect() };
    submit(session, args, of, async |admin: &AdminClient, broker: &str| {
        admin.put_groups(broker, &list).await
    })
    .await
}

/// The list in the file, which has something in it.
fn read<T: DeserializeOwned>(args: &FromFile) -> Result<Vec<T>, Error> {
    let path = args.filename.display();
    let unusable = |why: String| Error::Usage(format!("{path}: {why}"));
    let text = std::fs::read(&args.filename).map_err(|error| unusable(error.to_string()))?;
    let list: Vec<T> =
        serde_json::from_slice(&text).map_err(|error| unusable(error.to_string()))?;
    if list.is_empty() { Err(unusable("the list is empty".to_owned())) } else { Ok(list) }
}

struct Of {
    what: &'static str,
    names: Vec<String>,
}

async fn submit(
    session: &mut Session<'_>,
    args: &FromFile,
    Of { what, names }: Of,
    call: impl AsyncFn(&AdminClient, &str) -> Result<(), Error>,
) -> Result<(), Error> {
    if let Some(at) = names.iter().position(String::is_empty) {
        let text = format!("{}: number {} has no name", args.filename.display(), at + 1);
        return Err(Error::Usage(text));
    }
    let leaders = leaders(session, &args.to).await?;
    let done = on_each(session, leaders, call).await?;
    let text: String = done.iter().map(|broker| success(what, broker)).collect();
    session.out.show(&Told::new(text, json!({ "brokers": done, "names": names })))
}

/// mqadmin's words. The broker has done it when it answers.
fn success(what: &str, broker: &str) -> String {
    format!("submit batch of {what} config to {broker} success, please check the result later.\n")
}
