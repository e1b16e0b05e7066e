//! What can go wrong between a proposal and its answer.

use std::time::Duration;

use crate::protocol::message::RecordError;
use crate::store::{self, queues};

/// Why a proposal has no receipt. What a client is told is decided in `broker::error`.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProposeError {
    /// Nothing was appended: this member does not lead.
    #[error("this member is not the leader; last known leader: {}", leader.as_deref().unwrap_or("none"))]
    NotLeader {
        /// Name of the member that leads, as far as this one knows.
        leader: Option<String>,
    },
    /// Nothing was appended: this member has kept it for as long as it may, and nobody leads.
    #[error("this broker's group has no leader at the moment: {why}")]
    NoLeader {
        /// What this member waits for.
        why: String,
    },
    /// Nothing was appended: too much is waiting for a quorum already.
    #[error("{bytes} bytes more would exceed the {limit} bytes that may wait for a quorum")]
    Busy {
        /// Bytes of the refused proposal.
        bytes: usize,
        /// Largest number of bytes waiting.
        limit: usize,
    },
    /// Nothing was appended: the proposal does not fit into one entry.
    #[error("a proposal of {bytes} bytes does not fit into a log entry of at most {limit} bytes")]
    TooLarge {
        /// Bytes of the refused proposal.
        bytes: usize,
        /// Largest entry.
        limit: usize,
    },
    /// Appended, but leadership was lost before a quorum was known to have it: it may still be
    /// committed by the next leader.
    #[error("leadership was lost before a quorum confirmed; the change may still be committed")]
    OutcomeUnknown,
    /// No quorum confirmed in time; it may still be committed.
    #[error("no quorum within {waited:?}; the change may still be committed")]
    NoQuorum {
        /// How long was waited.
        waited: Duration,
    },
    /// Nothing was appended: this member's store refuses further writes in this life.
    #[error("this member's store takes no writes: {why}")]
    StoreFailed {
        /// First cause.
        why: String,
    },
    /// Nothing was appended: there is too little disk space.
    #[error("no disk space for writes: {why}")]
    DiskFull {
        /// The numbers.
        why: String,
    },
    /// Nothing was appended: this member hears nobody of its group, or stood still.
    #[error("this member is out of touch with its group, for {:.1} s", since.as_secs_f64())]
    OutOfTouch {
        /// How long.
        since: Duration,
    },
    /// Nothing was appended: this member belongs to its group no more, and has no leader.
    #[error("this member was removed from its group")]
    Removed,
    /// Nothing was appended: this member is shutting down.
    #[error("this member is shutting down")]
    Stopping,
}

impl ProposeError {
    /// Whether it may be committed all the same.
    pub fn is_in_doubt(&self) -> bool {
        match self {
            Self::OutcomeUnknown | Self::NoQuorum { .. } => true,
            Self::NotLeader { .. }
            | Self::NoLeader { .. }
            | Self::Busy { .. }
            | Self::TooLarge { .. }
            | Self::StoreFailed { .. }
            | Self::DiskFull { .. }
            | Self::OutOfTouch { .. }
            | Self::Removed
            | Self::Stopping => false,
        }
    }
}

/// Why a member cannot take leadership over. Reads on after its name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It does not answer.
    #[error("does not answer{}", silence(*since))]
    Silent {
        /// How long it has not; `None`: it never did.
        since: Option<Duration>,
    },
    /// It refuses to campaign.
    #[error("may lack what it vouched for when its machine stopped, and is finding that out")]
    InDoubt,
    /// It could not take messages.
    #[error("has no room: {why}")]
    NoRoom {
        /// In its words.
        why: String,
    },
    /// Its disk takes seconds for a sync.
    #[error("has a slow disk: {why}")]
    Slow {
        /// In its words.
        why: String,
    },
    /// It lacks entries.
    #[error("is {entries} entries behind")]
    Behind {
        /// How many.
        entries: u64,
    },
}

fn silence(since: Option<Duration>) -> String {
    let told = since.filter(|since| *since >= Duration::from_millis(100));
    told.map_or_else(String::new, |since| format!(", for {:.1} s", since.as_secs_f64()))
}

/// Why leadership was not transferred. Unless it says otherwise, nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// Only the leader can do that.
    #[error("this member does not lead its group; {}", match leader {
        Some(leader) => format!("{leader} does: ask that one"),
        None => "nobody does at the moment: try again".to_owned(),
    })]
    NotLeader {
        /// Name of the member that leads, as far as this one knows.
        leader: Option<String>,
    },
    /// There is no such member.
    #[error("the group has no member {name}; it has {members}")]
    Unknown {
        /// Who was asked for.
        name: String,
        /// Who there is, by comma.
        members: String,
    },
    /// It leads already.
    #[error("{name} leads already")]
    Leads {
        /// Its name.
        name: String,
    },
    /// It has no vote.
    #[error(
        "{name} has no vote, or is about to lose it, or its store is new and is being filled: \
         memberList shows what it is"
    )]
    Learner {
        /// Its name.
        name: String,
    },
    /// It cannot lead now.
    #[error("{name} cannot take over: it {why}; {leader} goes on leading")]
    Unfit {
        /// Its name.
        name: String,
        /// Why not.
        why: Unfit,
        /// Who leads.
        leader: String,
    },
    /// No member can lead but this one.
    #[error("nobody can take over: {why}; {leader} goes on leading")]
    Nobody {
        /// Of each member.
        why: String,
        /// Who leads.
        leader: String,
    },
    /// What was under way took too long.
    #[error(
        "{bytes} bytes under way were not stored by a majority within {within:?}, and what \
             comes cannot wait for longer; {leader} goes on leading"
    )]
    Unfinished {
        /// What was left.
        bytes: usize,
        /// How long it was waited for.
        within: Duration,
        /// Who leads.
        leader: String,
    },
    /// The member was told to lead, and another one does, or nobody yet.
    #[error("{name} was told to take over and did not; {}", match leader {
        Some(leader) => format!("{leader} leads now"),
        None => "the members elect a leader".to_owned(),
    })]
    NotTaken {
        /// Who was told.
        name: String,
        /// Who leads instead.
        leader: Option<String>,
    },
    /// One after the other.
    #[error("leadership is being transferred already: look who leads, then try again")]
    Busy,
    /// This member is shutting down.
    #[error("this member is shutting down, and hands leadership over by itself")]
    Stopping,
}

/// Why the group's members were not changed. Unless it says otherwise, nothing was recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MemberError {
    /// Only the leader can do that.
    #[error("this member does not lead its group; {}", match leader {
        Some(leader) => format!("{leader} does: ask that one"),
        None => "nobody does at the moment: try again".to_owned(),
    })]
    NotLeader {
        /// Name of the member that leads, as far as this one knows.
        leader: Option<String>,
    },
    /// One after the other.
    #[error(
        "{what}: one change at a time; memberList shows how far it is, and to take it back, \
         memberRemove who is being added or memberRole NAME voter who is leaving"
    )]
    UnderWay {
        /// What is on its way.
        what: String,
    },
    /// There is no such member.
    #[error("the group has no member {name}; it has {members}")]
    Unknown {
        /// Who was asked for.
        name: String,
        /// Who there is, by comma.
        members: String,
    },
    /// It is there.
    #[error(
        "{name} is a member already: memberList shows what it is, memberRole makes it a voter or a \
         learner"
    )]
    Known {
        /// Its name.
        name: String,
    },
    /// Somebody else is there.
    #[error("{address} is the address of {other}, which is a member already")]
    AddressTaken {
        /// As asked for.
        address: String,
        /// Who has it.
        other: String,
    },
    /// A member would call another address.
    #[error(
        "{name} shall be at {address}, but dLegerPeers of {member}, which goes first there, says \
         {configured}: make them agree"
    )]
    Elsewhere {
        /// Its name.
        name: String,
        /// Whose configuration says so.
        member: String,
        /// As asked for.
        address: String,
        /// As configured.
        configured: String,
    },
    /// Nobody waits there to be taken in.
    #[error(
        "{name} does not answer at {address} as a member that can be taken in: {why}; start it with \
         an empty store, the group's brokerClusterName, dLegerGroup and mappedFileSizeCommitLog, \
         and a dLegerPeers that names itself at that address and a member of the group"
    )]
    Silent {
        /// Its name.
        name: String,
        /// As asked for.
        address: String,
        /// What came of asking.
        why: String,
    },
    /// Its store is not empty.
    #[error(
        "{name} at {address} cannot be taken in: {why}; stop it, and start it again with an empty \
         storePathRootDir and this build"
    )]
    Alien {
        /// Its name.
        name: String,
        /// As asked for.
        address: String,
        /// What speaks against it.
        why: String,
    },
    /// Nothing could be committed any more.
    #[error(
        "of the {voters} voters that the group would have no majority is there and caught up: \
         {lacking}; start those first"
    )]
    NoMajority {
        /// How many there would be.
        voters: usize,
        /// Who lacks what.
        lacking: String,
    },
    /// A group has a voter.
    #[error("{name} is the last voter of the group: add another one first")]
    LastVoter {
        /// Its name.
        name: String,
    },
    /// Only a vote can be taken over.
    #[error("{name} is a learner, nobody has to take its place: remove it and add the other one")]
    Voteless {
        /// Its name.
        name: String,
    },
    /// That needs nobody's help.
    #[error(
        "{name} takes its own place by itself when it is started with an empty store, under the \
         address that dLegerPeers names"
    )]
    ItselfInPlace {
        /// Its name.
        name: String,
    },
    /// It listens for no peers.
    #[error(
        "this broker takes no calls of other members: restart it with enableDLegerCommitLog=true, \
         the dLegerGroup that is its brokerName now, dLegerSelfId={member} and \
         dLegerPeers={member}-host:port; its store stays as it is"
    )]
    Unreachable {
        /// Its name.
        member: String,
    },
    /// The log did not take it.
    #[error("the change may not have been recorded, see memberList: {why}")]
    NotRecorded {
        /// In consensus' words.
        why: String,
    },
    /// Some member could not read it.
    #[error(
        "members cannot come and go while there are some of a former build, or that do not answer: \
         {why}; upgrade or start them first"
    )]
    Outdated {
        /// Whom it waits for.
        why: String,
    },
    /// Several operators, or a change that takes its time.
    #[error("changes of members are waiting already: look at memberList, then try again")]
    Busy,
    /// It leads no more, or stops.
    #[error(
        "this member stops, or has stopped leading meanwhile: memberList shows whether the change \
         was recorded; whoever leads goes on with it then"
    )]
    Interrupted,
}

/// Why a group could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store refused.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The log is damaged, and nobody has what belongs there.
    #[error("{damage}; {tried}")]
    Unrepaired {
        /// Where and how. Nothing was changed.
        damage: store::Error,
        /// Who was asked, and what they said.
        tried: String,
    },
    /// The log is damaged, and all others have let go what belongs there: they begin later.
    #[error("{damage}; every other member has purged what belongs there")]
    Outlived {
        /// Where and how. Nothing was changed.
        damage: store::Error,
    },
    /// Its derived data refused.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A checkpoint or snapshot cannot be read by this version.
    #[error("the checkpoint in {dir} cannot be used: {why}")]
    Checkpoint {
        /// The store.
        dir: String,
        /// Why.
        why: String,
    },
    /// It was told to go on alone, and that is half done.
    #[error(
        "{member} was told to start its group anew, alone, and that was not finished: finish it with \
         rmq-broker and the same configuration, --recover-alone={code}"
    )]
    Unfinished {
        /// This member.
        member: String,
        /// What was confirmed.
        code: String,
    },
    /// openraft refused its configuration or its storage.
    #[error("cannot start the raft core: {why}")]
    Core {
        /// What openraft said.
        why: String,
    },
}

/// What the store thread, and a rebuild of derived data, can run into.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// Log, files, checkpoint.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Derived data.
    #[error(transparent)]
    Queues(#[from] queues::Error),
    /// A committed entry contains something that is no message.
    #[error("a committed entry contains no readable message: {0}")]
    Record(#[from] RecordError),
}

impl StorageError {
    /// Whether trying again helps once there is room.
    pub(super) fn is_no_room(&self) -> bool {
        match self {
            Self::Store(error) | Self::Queues(queues::Error::Disk(error)) => error.is_no_room(),
            Self::Queues(_) | Self::Record(_) => false,
        }
    }
}
