//! One replicated log per broker group: openraft over the CommitLog, and the tables it carries.
//!
//! ```text
//!  broker ── propose ──► proposer ──► openraft ──► log_store ──► store::CommitLog ──► disk
//!                                        │  ▲
//!                          network ◄─────┘  └───── rpc_server ◄── peers (tonic)
//!                                        │
//!                                        ▼ committed
//!                                  state_machine ──► tables, store::Queues ──► answers, wake-ups
//! ```
//!
//! Nothing outside this module knows openraft. What others hold is a [`Group`].

mod applied;
mod awaited;
mod catch_up;
#[cfg(test)]
mod catch_up_tests;
mod checkpointer;
mod chronicle;
pub mod codec;
pub mod command;
mod commit_news;
#[cfg(test)]
mod conformance_tests;
mod consumers;
mod contact;
#[cfg(test)]
mod crash_tests;
mod dial;
mod digest;
mod directory;
mod doubt;
mod duplicates;
#[cfg(test)]
mod duplicates_tests;
mod error;
mod filling;
mod first_start;
mod forward;
#[cfg(test)]
mod forward_tests;
mod forward_wire;
mod forwarded;
mod forwarder;
#[cfg(test)]
mod full_disk_tests;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod group;
#[cfg(test)]
pub(crate) mod group_tests;
mod handover;
mod heard;
mod housekeeping;
mod incoming;
mod introduction;
mod lineage;
mod locks;
mod log_store;
mod member_change;
mod member_steps;
mod members;
#[cfg(test)]
mod members_tests;
mod membership;
mod network;
mod offers;
mod open;
mod pacemaker;
mod pacing;
mod passers;
pub mod peers;
#[cfg(test)]
mod power_tests;
mod preference;
mod proposal;
mod proposer;
mod pulse;
mod reach;
mod recover_alone;
mod repair;
#[cfg(test)]
mod repair_tests;
mod role;
mod role_watcher;
mod room;
mod roster;
mod rpc_server;
mod scrub;
#[cfg(test)]
mod scrub_tests;
mod scrubber;
#[cfg(test)]
mod simulation;
mod slow_disk;
#[cfg(test)]
mod slow_disk_tests;
mod snapshot;
mod start;
mod state_machine;
#[cfg(test)]
mod storage_tests;
#[cfg(test)]
mod stored_forms_tests;
mod succession;
pub mod tables;
mod transfer;
#[cfg(test)]
mod transfer_tests;
mod type_config;
mod under_way;
mod version;
mod voice;
mod waiting;
mod wire;
mod wire_codec;

pub use applied::{QueueAdvance, QueueListener};
pub use awaited::{Awaited, Awaits};
pub use catch_up::CatchUp;
pub use chronicle::{Cause, Lead, LeaderChange, LeaderChanges};
pub use consumers::{ConnectedConsumers, Taken};
pub use error::{MemberError, ProposeError, StartError, TransferError, Unfit};
pub use group::{Group, GroupOptions, PassedOn, PeerStatus, Status, Timing, Way};
pub use lineage::BelongsTo;
pub use member_change::{MemberChange, Part};
pub use members::Mode;
pub use peers::{PeerAddress, Peers};
pub use proposal::{Done, Place, Proposal, Receipt};
pub use proposer::Limits;
pub use pulse::{PULSE, Pulse};
pub use reach::{PeerAnswer, Reach, Unreached};
pub use recover_alone::{Recovered, recover_alone};
pub use repair::RepairDone;
pub use role::Role;
pub use room::{DiskPace, SlowDisk};
pub use roster::{MemberStatus, Roster, Voting};
pub use scrub::{Left, ScrubRules, Scrubbed};
pub use transfer::Transferred;
