//! Who belongs to a broker group. Ours: mqadmin has no such commands.

use std::fmt;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::Session;
use super::{leader::leader_of_member, members::OfGroup};
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
    let listed = look(&session.admin, &args.of.some(&session.admin).await?).await?;
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
    let goal = Goal::Is(name, if *learner { Role::Learner } else { Role::Voter });
    make(session, change, &header.request(), goal).await
}

/// Removes a member.
pub(in crate::admin) async fn remove(
    session: &mut Session<'_>,
    args: &MemberRemove,
) -> Result<(), Error> {
    let header = RemoveMember { name: args.name.clone(), dry_run: args.change.dry_run };
    make(session, &args.change, &header.request(), Goal::IsAbsent(&args.name)).await
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
    let goal = Goal::IsReplaced(&args.old, &args.new);
    make(session, &args.change, &header.request(), goal).await
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
    make(session, &args.change, &header.request(), Goal::Is(&args.name, args.role)).await
}

async fn make(
    session: &mut Session<'_>,
    change: &Change,
    request: &RemotingCommand,
    goal: Goal<'_>,
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
    let listed = settled(session, change, goal).await?;
    session.out.show(&Listed(listed))
}

/// What a change is for.
#[derive(Debug, Clone, Copy)]
enum Goal<'a> {
    /// A member is this.
    Is(&'a str, Role),
    /// There is no such member.
    IsAbsent(&'a str),
    /// Not the one, but the other votes.
    IsReplaced(&'a str, &'a str),
}

impl Goal<'_> {
    /// Whether it is reached, when nothing is on its way.
    fn is_reached(self, listed: &GroupMembers) -> bool {
        let part = |name: &str| {
            let member = listed.members.iter().find(|member| member.name == name)?;
            Some(if member.part == "learner" { Role::Learner } else { Role::Voter })
        };
        match self {
            Self::Is(name, role) => part(name) == Some(role),
            Self::IsAbsent(name) => part(name).is_none(),
            Self::IsReplaced(old, new) => part(old).is_none() && part(new) == Some(Role::Voter),
        }
    }

    /// What is to be said if it is not.
    fn taken_back(self, listed: &GroupMembers) -> String {
        let is = |name: &str| {
            let part = listed.members.iter().find(|member| member.name == name);
            part.map_or_else(|| format!("{name} is no member"), |m| format!("{name} is {}", m.part))
        };
        let found = match self {
            Self::Is(name, _) | Self::IsAbsent(name) => is(name),
            Self::IsReplaced(old, new) => format!("{}, {}", is(old), is(new)),
        };
        format!("taken back meanwhile, by another change: {found}")
    }
}

/// How a change stands.
#[derive(Debug, PartialEq, Eq)]
enum Stand {
    UnderWay,
    Done,
    TakenBack,
}

/// How a change stands, as a member sees it. Pure.
fn stand(goal: Goal<'_>, listed: &GroupMembers) -> Stand {
    let is_settled =
        listed.leader.is_some() && listed.members.iter().all(|member| member.becomes.is_none());
    let sees_leader = listed.leader.as_ref() == Some(&listed.answering);
    match (is_settled, goal.is_reached(listed)) {
        (true, true) => Stand::Done,
        // Others may not have heard of it yet.
        (true, false) if sees_leader => Stand::TakenBack,
        (true, false) | (false, _) => Stand::UnderWay,
    }
}

/// Waits until nothing is on its way.
async fn settled(
    session: &Session<'_>,
    change: &Change,
    goal: Goal<'_>,
) -> Result<GroupMembers, Error> {
    let deadline = Instant::now() + Duration::from_secs(change.wait);
    let some = change.of.some(&session.admin).await?;
    loop {
        let listed = look(&session.admin, &some).await;
        match listed.as_ref().map(|listed| stand(goal, listed)) {
            Ok(Stand::Done) => return listed,
            Ok(Stand::TakenBack) => {
                return listed.and_then(|listed| Err(Error::Unable(goal.taken_back(&listed))));
            }
            // Who was asked may have been the one that leaves.
            Ok(Stand::UnderWay) | Err(_) if Instant::now() < deadline => sleep(LOOK_EVERY).await,
            Ok(Stand::UnderWay) => {
                return listed
                    .and_then(|listed| Err(Error::Unable(unsettled(&listed, change.wait))));
            }
            Err(_) => return listed,
        }
    }
}

/// As the leader sees it, if it can be found; else as the first of `some` members that answers.
async fn look(admin: &AdminClient, some: &[String]) -> Result<GroupMembers, Error> {
    let mut lost = None;
    for member in some {
        let listed = match admin.group_members(member).await {
            Ok(listed) => listed,
            Err(error) => {
                lost = lost.or(Some(error));
                continue;
            }
        };
        if listed.leader.as_ref() == Some(&listed.answering) {
            return Ok(listed);
        }
        return match leader_of_member(admin, member).await {
            Some(leader) => Ok(admin.group_members(&leader).await.unwrap_or(listed)),
            None => Ok(listed),
        };
    }
    Err(lost.unwrap_or_else(|| Error::Unable("there is nobody to ask".to_owned())))
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
    fn a_change_is_done_when_nobody_becomes_anything_and_it_is_what_was_wanted() {
        let mut members = listed();
        let learner = Goal::Is("n3", Role::Learner);
        assert_eq!(stand(learner, &members), Stand::Done);
        members.members[1].becomes = Some("votes when it has caught up".to_owned());
        members.members[1].behind = Some(7);
        assert_eq!(stand(learner, &members), Stand::UnderWay);
        assert_eq!(
            unsettled(&members, 120),
            "not done within 120 s: n3 votes when it has caught up (lacks 7 entries); it goes on \
             without us, memberList shows how far it is"
        );
        let leaderless = GroupMembers { leader: None, ..listed() };
        assert_eq!(stand(learner, &leaderless), Stand::UnderWay);
    }

    #[test]
    fn a_change_that_somebody_took_back_is_not_done() {
        let rows = [
            (Goal::Is("n0", Role::Voter), None),
            (Goal::Is("n3", Role::Voter), Some("n3 is learner")),
            (Goal::Is("n4", Role::Learner), Some("n4 is no member")),
            (Goal::IsAbsent("n4"), None),
            (Goal::IsAbsent("n0"), Some("n0 is leader")),
            (Goal::IsReplaced("n4", "n0"), None),
            (Goal::IsReplaced("n3", "n4"), Some("n3 is learner, n4 is no member")),
        ];
        for (goal, found) in rows {
            let want = if found.is_some() { Stand::TakenBack } else { Stand::Done };
            assert_eq!(stand(goal, &listed()), want, "{goal:?}");
            let follower = GroupMembers { answering: "n3".to_owned(), ..listed() };
            let want = if found.is_some() { Stand::UnderWay } else { Stand::Done };
            assert_eq!(stand(goal, &follower), want, "it may not know yet: {goal:?}");
            if let Some(found) = found {
                assert!(goal.taken_back(&listed()).ends_with(found), "{goal:?}");
            }
        }
    }
}
