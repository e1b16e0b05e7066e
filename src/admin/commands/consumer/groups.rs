//! All groups, one line each.

use std::{cmp::Reverse, fmt};

use serde::Serialize;

use super::{Progress, brokers_of, members_of, progress_of};
use crate::{
    admin::{
        client::AdminClient,
        commands::{Session, each},
        error::Error,
    },
    protocol::{
        bodies::{ConsumeType, ConsumerConnection, MessageModel},
        names, version,
    },
};

pub(super) async fn show(session: &mut Session<'_>) -> Result<(), Error> {
    let topics = session.admin.topics().await?;
    let groups = topics.iter().filter_map(|topic| names::group_of_retry_topic(topic));
    let admin = &session.admin;
    let found = each(groups, |group| group_line(admin, group)).await;
    let mut lines = Vec::new();
    for (line, failures) in found {
        failures.iter().for_each(|error| session.out.fail(error));
        lines.push(line);
    }
    session.out.show(&Groups::of(lines))
}

/// A group's line, and what could not be found out.
async fn group_line(admin: &AdminClient, group: &str) -> (Group, Vec<Error>) {
    let brokers = match brokers_of(admin, group, None).await {
        Ok(brokers) => brokers,
        Err(error) => return (Group::of(group, &Progress::default(), None), vec![error]),
    };
    let (progress, mut failures) = progress_of(admin, &brokers, group, None).await;
    let members = members_of(admin, &brokers, group).await.unwrap_or_else(|error| {
        failures.push(error);
        None
    });
    let members = members.map(|(_, members)| members);
    (Group::of(group, &progress, members.as_ref()), failures)
}

#[derive(Serialize)]
#[serde(transparent)]
struct Groups(Vec<Group>);

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    group: String,
    /// Members that are connected.
    count: usize,
    /// The oldest release among them.
    version: String,
    #[serde(rename = "type")]
    kind: String,
    model: String,
    consume_tps: f64,
    diff_total: i64,
}

impl Group {
    fn of(name: &str, progress: &Progress, members: Option<&ConsumerConnection>) -> Self {
        let members = members.filter(|members| !members.connection_set.is_empty());
        let oldest = |members: &ConsumerConnection| {
            members.connection_set.iter().map(|member| member.version).min().unwrap_or_default()
        };
        Self {
            group: name.to_owned(),
            count: members.map_or(0, |members| members.connection_set.len()),
            version: members.map_or_else(|| "OFFLINE".to_owned(), |m| version::name_of(oldest(m))),
            kind: members.map_or("", |members| kind_name(members.consume_type)).to_owned(),
            model: members.map_or("", |members| model_name(members.message_model)).to_owned(),
            consume_tps: progress.tps,
            diff_total: progress.diff(),
        }
    }
}

impl Groups {
    /// The largest groups first, among equals those that lag most.
    fn of(mut groups: Vec<Group>) -> Self {
        groups.sort_by(|a, b| {
            let key = |group: &Group| (Reverse(group.count), Reverse(group.diff_total));
            key(a).cmp(&key(b)).then_with(|| a.group.cmp(&b.group))
        });
        Self(groups)
    }
}

fn kind_name(kind: ConsumeType) -> &'static str {
    match kind {
        ConsumeType::Actively => "PULL",
        ConsumeType::Passively | ConsumeType::Pop => "PUSH",
    }
}

fn model_name(model: MessageModel) -> &'static str {
    match model {
        MessageModel::Clustering => "CLUSTERING",
        MessageModel::Broadcasting => "BROADCASTING",
        MessageModel::LiteSelective => "LITE_SELECTIVE",
    }
}

impl fmt::Display for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let titles = ["#Group", "#Count", "#Version", "#Type", "#Model", "#TPS", "#Diff Total"];
        let [group, count, version, kind, model, tps, diff] = titles;
        writeln!(
            f,
            "{group:<64}  {count:<6}  {version:<24} {kind:<5}  {model:<14}  {tps:<7}  {diff}"
        )?;
        for row in &self.0 {
            writeln!(
                f,
                "{:<64}  {:<6}  {:<24} {:<5}  {:<14}  {:<7}  {}",
                row.group,
                row.count,
                row.version,
                row.kind,
                row.model,
                format!("{:.0}", row.consume_tps.trunc()),
                row.diff_total
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{admin::golden, protocol::bodies};

    #[test]
    fn groups_are_printed_as_mqadmin_does() {
        let mut members: ConsumerConnection =
            bodies::decode(&golden::answer("admin-consumer-connection-mqadmin").body).unwrap();
        members.connection_set.truncate(1);
        members.connection_set[0].version = version::CURRENT;
        members.consume_type = ConsumeType::Passively;
        members.message_model = MessageModel::Clustering;
        let online =
            Group::of("please_rename_unique_group_name_4", &Progress::default(), Some(&members));
        let offline = Group::of("TOOLS_CONSUMER", &Progress::default(), None);
        let want = "\
#Group                                                            #Count  #Version                 #Type  #Model          #TPS     #Diff Total
please_rename_unique_group_name_4                                 1       V5_5_0                   PUSH   CLUSTERING      0        0
TOOLS_CONSUMER                                                    0       OFFLINE                                         0        0
";
        assert_eq!(Groups::of(vec![offline, online]).to_string(), want);
    }

    #[test]
    fn the_largest_groups_come_first_and_then_those_that_lag() {
        let group = |name: &str, count, diff_total| Group {
            count,
            diff_total,
            ..Group::of(name, &Progress::default(), None)
        };
        let sorted = Groups::of(vec![
            group("idle", 0, 0),
            group("b", 2, 1),
            group("lagging", 2, 9),
            group("a", 2, 1),
            group("away", 0, 5),
        ]);
        let names: Vec<&str> = sorted.0.iter().map(|group| group.group.as_str()).collect();
        assert_eq!(names, ["lagging", "a", "b", "away", "idle"]);
    }
}
