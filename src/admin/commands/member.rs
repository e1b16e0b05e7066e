//! Who belongs to a broker group. Ours: mqadmin has no such commands.

use std::fmt;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::Session;
use super::leader::{OfGroup, leader_of_member};
use crate::{
    admin::{cli::trimmed, client::AdminClient, error::Error, output::Told},
    protocol::{
        bodies::{CatchingUp, GroupMember, GroupMembers, MemberPlan},
        command::RemotingCommand,
        headers::admin::{AddMember, AssignMember, RemoveMember, ReplaceMember},
    },
};

/// Between looks at how far a change is.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const MIB: u64 = 1024 * 1024;

/// Flags of memberList.
#[derive(Debug, Args)]
pub(in crate::admin) struct MemberList {
    #[command(flatten)]
    of: OfGroup,
}

/// Flags of all changes.
#[derive(Debug, Args)]
struct Change {
    #[command(flatten)]
    of: OfGroup,
    /// check only, and say what would happen
    #[arg(long)]
    dry_run: bool,
    /// seconds to wait until it is done; 0: do not wait. It goes on without us
    #[arg(long, default_value_t = 120)]
    wait: u64,
}

/// Flags of memberAdd.
#[derive(Debug, Args)]
pub(in crate::admin) struct MemberAdd {
    /// its name (dLegerSelfId)
    #[arg(value_parser = trimmed)]
    name: String,
    /// where its peers reach it, host:port, as in its dLegerPeers
    #[arg(value_parser = trimmed)]
    address: String,
    /// it gets the log and serves reads, and never votes
    #[arg(long)]
    learner: bool,
    #[command(flatten)]
    change: Change,
}

/// Flags of memberRemove.
#[derive(Debug, Args)]
pub(in crate::admin) struct MemberRemove {
    /// its name
    #[arg(value_parser = trimmed)]
    name: String,
    #[command(flatten)]
    change: Change,
}

/// Flags of memberReplace.
#[derive(Debug, Args)]
pub(in crate::admin) struct MemberReplace {
    /// name of the member that leaves
    #[arg(value_parser = trimmed)]
    old: String,
    /// name of the member that comes (dLegerSelfId)
    #[arg(value_parser = trimmed)]
    new: String,
    /// where its peers reach the one that comes, host:port, as in its dLegerPeers
    #[arg(value_parser = trimmed)]
    address: String,
    #[command(flatten)]
    change: Change,
}

/// Flags of memberRole.
#[derive(Debug, Args)]
pub(in crate::admin) struct MemberRole {
    /// its name
    #[arg(value_parser = trimmed)]
    name: String,
    /// what it shall be
    role: Role,
    #[command(flatten)]
    change: Change,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Role {
    /// It votes; one that leaves stays.
    Voter,
    /// It gets the log and serves reads, and never votes.
    Learner,
}

/// Lists the members of a group.
pub(in crate::admin) async fn list(
    session: &mut Session<'_>,
    args: &MemberList,
) -> Result<(), Error> {
    let member = args.of.member(&session.admin).await?;
    let listed = look(&session.admin, &member).await?;
    session.out.show(&Listed(listed))
}

/// Takes a member in.
pub(in crate::admin) async fn add(
    session: &mut Session<'_>,
    args: &MemberAdd,
) -> Result<(), Error> {
    let MemberAdd { name, address, learner, change } = args;
    let header = AddMember {
        name: name.clone(),
        address: address.clone(),
        learner: *learner,
        dry_run: change.dry_run,
    };
    make(session, change, &header.request()).await
}

/// Removes a member.
pub(in crate::admin) async fn remove(
    session: &mut Session<'_>,
    args: &MemberRemove,
) -> Result<(), Error> {
    let header = RemoveMember { name: args.name.clone(), dry_run: args.change.dry_run };
    make(session, &args.change, &header.request()).await
}

/// Puts one member in the place of another.
pub(in crate::admin) async fn replace(
    session: &mut Session<'_>,
    args: &MemberReplace,
) -> Result<(), Error> {
    let header = ReplaceMember {
        old: args.old.clone(),
        new: args.new.clone(),
        address: args.address.clone(),
        dry_run: args.change.dry_run,
    };
    make(session, &args.change, &header.request()).await
}

/// Gives a member a vote, or takes it.
pub(in crate::admin) async fn assign(
    session: &mut Session<'_>,
    args: &MemberRole,
) -> Result<(), Error> {
    let header = AssignMember {
        name: args.name.clone(),
        learner: args.role == Role::Learner,
        dry_run: args.change.dry_run,
    };
    make(session, &args.change, &header.request()).await
}

async fn make(
    session: &mut Session<'_>,
    change: &Change,
    request: &RemotingCommand,
) -> Result<(), Error> {
    let admin = &session.admin;
    let ask = async |broker: &str| admin.change_members(broker, request.clone()).await;
    let MemberPlan { group, steps } = change.of.ask_leader(admin, ask).await?;
    let is_dry = change.dry_run;
    let first = if is_dry { "would happen" } else { "happens" };
    let lines: String = steps.iter().map(|step| format!("  {step}\n")).collect();
    let value = json!({ "group": group, "dryRun": is_dry, "steps": steps });
    session.out.show(&Told::new(format!("{group}: this {first}\n{lines}"), value))?;
    if is_dry || change.wait == 0 {
        return Ok(());
    }
    let listed = settled(session, change).await?;
    session.out.show(&Listed(listed))
}

/// Waits until nothing is on its way.
async fn settled(session: &Session<'_>, change: &Change) -> Result<GroupMembers, Error> {
    let deadline = Instant::now() + Duration::from_secs(change.wait);
    let member = change.of.member(&session.admin).await?;
    loop {
        let listed = look(&session.admin, &member).await;
        match listed {
            Ok(listed) if is_settled(&listed) => return Ok(listed),
            // Who was asked may have been the one that leaves.
            Ok(_) | Err(_) if Instant::now() < deadline => sleep(LOOK_EVERY).await,
            Ok(listed) => return Err(Error::Unable(unsettled(&listed, change.wait))),
            Err(error) => return Err(error),
        }
    }
}

/// As the leader sees it, if it can be found; else as `member` does.
async fn look(admin: &AdminClient, member: &str) -> Result<GroupMembers, Error> {
    let listed = admin.group_members(member).await?;
    if listed.leader.as_ref() == Some(&listed.answering) {
        return Ok(listed);
    }
    match leader_of_member(admin, member).await {
        Some(leader) => Ok(admin.group_members(&leader).await.unwrap_or(listed)),
        None => Ok(listed),
    }
}

fn is_settled(listed: &GroupMembers) -> bool {
    listed.leader.is_some() && listed.members.iter().all(|member| member.becomes.is_none())
}

fn unsettled(listed: &GroupMembers, seconds: u64) -> String {
    let pending = |member: &GroupMember| {
        let behind = member.behind.map_or(String::new(), |n| format!(" (lacks {n} entries)"));
        member.becomes.as_ref().map(|becomes| format!("{} {becomes}{behind}", member.name))
    };
    let pending: Vec<String> = listed.members.iter().filter_map(pending).collect();
    let what = if pending.is_empty() { "nobody leads".to_owned() } else { pending.join(", ") };
    let answering = &listed.answering;
    let whose = match listed.leader.as_ref() == Some(answering) {
        true => String::new(),
        false => format!(" as {answering} sees it, which does not lead (-n finds who does)"),
    };
    format!(
        "not done within {seconds} s{whose}: {what}; it goes on without us, memberList shows how \
         far it is"
    )
}

#[derive(Serialize)]
#[serde(transparent)]
struct Listed(GroupMembers);

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let GroupMembers { group, leader, answering, waits_for, members } = &self.0;
        let leads = leader.as_deref().unwrap_or("nobody");
        writeln!(f, "{group}, led by {leads}, as {answering} sees it")?;
        writeln!(
            f,
            "{:<12} {:<24} {:<16} {:>4} {:<8} {:>12} {:>8} {:>9}  #Becomes",
            "#Name", "#Address", "#Store", "#BID", "#Part", "#Has", "#Behind", "#Silent"
        )?;
        let number = |n: Option<u64>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
        for member in members {
            let silent = member.silent_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"));
            let line = format!(
                "{:<12} {:<24} {:<16} {:>4} {:<8} {:>12} {:>8} {silent:>9}  {}",
                member.name,
                member.address,
                member.store_id,
                member.broker_id,
                member.part,
                number(member.matched),
                number(member.behind),
                becomes(member)
            );
            writeln!(f, "{}", line.trim_end())?;
        }
        waits_for.iter().try_for_each(|why| writeln!(f, "{answering}: {why}"))
    }
}

/// What it becomes, and how far it is.
fn becomes(member: &GroupMember) -> String {
    let progress = member.catch_up.as_ref().map(progress);
    let parts = [member.becomes.clone(), progress];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn progress(CatchingUp { percent, bytes_per_second, left_seconds }: &CatchingUp) -> String {
    let rate = match bytes_per_second {
        None => String::new(),
        Some(0) => ", stands still".to_owned(),
        Some(rate) if *rate >= MIB => format!(", {} MiB/s", rate / MIB),
        Some(rate) => format!(", {} KiB/s", rate / 1024),
    };
    let left = match (left_seconds, bytes_per_second) {
        (Some(seconds), _) => format!(", {seconds} s left"),
        (None, Some(1..)) => ", gets no nearer".to_owned(),
        (None, Some(0) | None) => String::new(),
    };
    format!("catching up {percent} %{rate}{left}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed() -> GroupMembers {
        let member = |name: &str, broker_id, part: &str| GroupMember {
            name: name.to_owned(),
            address: format!("10.0.0.{broker_id}:40911"),
            store_id: format!("{broker_id:016x}"),
            broker_id,
            part: part.to_owned(),
            matched: Some(90),
            behind: Some(0),
            behind_bytes: Some(0),
            catch_up: None,
            silent_ms: Some(40),
            becomes: None,
        };
        GroupMembers {
            group: "RaftNode00".to_owned(),
            leader: Some("n0".to_owned()),
            answering: "n0".to_owned(),
            waits_for: None,
            members: vec![member("n0", 1, "leader"), member("n3", 4, "learner")],
        }
    }

    #[test]
    fn members_are_listed_in_columns() {
        assert_eq!(
            Listed(listed()).to_string(),
            "RaftNode00, led by n0, as n0 sees it\n\
             #Name        #Address                 #Store           #BID #Part            #Has  \
             #Behind   #Silent  #Becomes\n\
             n0           10.0.0.1:40911           0000000000000001    1 leader             90        \
             0     40 ms\n\
             n3           10.0.0.4:40911           0000000000000004    4 learner            90        \
             0     40 ms\n"
        );
    }

    #[test]
    fn a_member_that_catches_up_says_how_far_it_is() {
        let rows = [
            (Some(100_663_296), Some(12), "catching up 42 %, 96 MiB/s, 12 s left"),
            (Some(10_240), Some(900), "catching up 42 %, 10 KiB/s, 900 s left"),
            (Some(10_240), None, "catching up 42 %, 10 KiB/s, gets no nearer"),
            (Some(0), None, "catching up 42 %, stands still"),
            (None, None, "catching up 42 %"),
        ];
        for (bytes_per_second, left_seconds, want) in rows {
            let mut members = listed();
            let member = &mut members.members[1];
            member.catch_up = Some(CatchingUp { percent: 42, bytes_per_second, left_seconds });
            assert_eq!(becomes(member), want);
            member.becomes = Some("votes when it has caught up".to_owned());
            let line = format!("  votes when it has caught up; {want}\n");
            assert!(Listed(members).to_string().ends_with(&line), "{want}");
        }
    }

    #[test]
    fn a_change_is_done_when_nobody_becomes_anything() {
        let mut members = listed();
        assert!(is_settled(&members));
        members.members[1].becomes = Some("votes when it has caught up".to_owned());
        members.members[1].behind = Some(7);
        assert!(!is_settled(&members));
        assert_eq!(
            unsettled(&members, 120),
            "not done within 120 s: n3 votes when it has caught up (lacks 7 entries); it goes on \
             without us, memberList shows how far it is"
        );
        let leaderless = GroupMembers { leader: None, ..listed() };
        assert!(!is_settled(&leaderless));
    }
}
