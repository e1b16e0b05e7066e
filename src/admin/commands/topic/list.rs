//! topicList: all topics; with `-c` also their clusters and consumer groups.

use std::{collections::BTreeSet, fmt};

use clap::Args;
use serde::Serialize;

use super::super::{Session, each};
use crate::{
    admin::{
        client::{AdminClient, Answered},
        error::Error,
    },
    protocol::names,
};

/// Flags of topicList.
#[derive(Debug, Args)]
pub(in crate::admin) struct TopicList {
    /// with the clusters and consumer groups of each topic, without retry and dead-letter topics
    #[arg(short, long = "clusterModel")]
    cluster_model: bool,
}

/// Lists topics.
pub(in crate::admin) async fn list(
    session: &mut Session<'_>,
    args: &TopicList,
) -> Result<(), Error> {
    let topics = session.admin.topics().await?;
    if !args.cluster_model {
        return session.out.show(&Names(topics));
    }
    let topics = topics
        .into_iter()
        .filter(|topic| !names::is_retry_topic(topic) && !names::is_dlq_topic(topic));
    let admin = &session.admin;
    let found = each(topics, |topic| async move {
        let users = users_of(admin, &topic).await;
        (topic, users)
    })
    .await;
    let mut rows = Vec::new();
    for (topic, users) in found {
        // A topic that cannot be looked at is listed nevertheless.
        let users = users.unwrap_or_else(|error| {
            session.out.fail(&error);
            Users::default()
        });
        rows.extend(users.rows(&topic));
    }
    session.out.show(&Rows(rows))
}

/// Where a topic is and who consumes it.
#[derive(Debug, Default)]
struct Users {
    clusters: BTreeSet<String>,
    groups: BTreeSet<String>,
}

impl Users {
    /// One row per cluster and group; at least one.
    fn rows(&self, topic: &str) -> Vec<Row> {
        let or_nothing = |names: &BTreeSet<String>| {
            let names: Vec<String> = names.iter().cloned().collect();
            if names.is_empty() { vec![String::new()] } else { names }
        };
        let groups = or_nothing(&self.groups);
        let mut rows = Vec::new();
        for cluster_name in or_nothing(&self.clusters) {
            rows.extend(groups.iter().map(|group| Row {
                cluster_name: cluster_name.clone(),
                topic: topic.to_owned(),
                consumer_group: group.clone(),
            }));
        }
        rows
    }
}

async fn users_of(admin: &AdminClient, topic: &str) -> Result<Users, Error> {
    let route = admin.route(topic).await?;
    let mut users = Users::default();
    for broker in &route.broker_datas {
        users.clusters.insert(broker.cluster.clone());
        let Answered { answer, .. } = admin.groups_of_topic(broker, topic).await?;
        users.groups.extend(answer.group_list);
    }
    Ok(users)
}

#[derive(Serialize)]
#[serde(transparent)]
struct Names(Vec<String>);

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|topic| writeln!(f, "{topic}"))
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Rows(Vec<Row>);

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    cluster_name: String,
    topic: String,
    consumer_group: String,
}

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cluster, topic, group) = ("#Cluster Name", "#Topic", "#Consumer Group");
        writeln!(f, "{cluster:<20}  {topic:<48}  {group:<48}")?;
        for row in &self.0 {
            let Row { cluster_name, topic, consumer_group } = row;
            writeln!(f, "{cluster_name:<20}  {topic:<64}  {consumer_group:<64}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(clusters: &[&str], groups: &[&str]) -> Users {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Users { clusters: set(clusters), groups: set(groups) }
    }

    #[test]
    fn every_group_of_a_topic_has_a_row_and_a_topic_without_has_one() {
        let rows = [
            (users(&["C"], &["g", "h"]), vec![("C", "g"), ("C", "h")]),
            (users(&["C"], &[]), vec![("C", "")]),
            (users(&[], &[]), vec![("", "")]),
            (users(&["C", "D"], &["g"]), vec![("C", "g"), ("D", "g")]),
        ];
        for (users, want) in rows {
            let rows = users.rows("T");
            let got: Vec<(&str, &str)> =
                rows.iter().map(|r| (r.cluster_name.as_str(), r.consumer_group.as_str())).collect();
            assert_eq!(got, want, "{users:?}");
        }
    }

    #[test]
    fn rows_are_what_mqadmin_prints() {
        let rows = Rows(users(&["RaftCluster"], &["please_rename"]).rows("TopicTest"));
        let want = format!(
            "#Cluster Name         #Topic                                            \
             #Consumer Group                                 \n\
             RaftCluster           TopicTest{}please_rename{}\n",
            " ".repeat(57),
            " ".repeat(51)
        );
        assert_eq!(rows.to_string(), want);
        assert_eq!(Names(vec!["A".into(), "B".into()]).to_string(), "A\nB\n");
    }
}
