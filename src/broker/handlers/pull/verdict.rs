//! What a consumer is told about what was found for it. Pure: one row of a table for each case.

use crate::ids::QueueOffset;
use crate::protocol::codes::ResponseCode;
use crate::store::queues::Unit;
use crate::store::read::Outcome;

use super::{Pull, as_i64};

/// What is to be answered, by the rules of Java's broker.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// These messages.
    Messages { units: Vec<Unit>, next: QueueOffset },
    /// This code, and where the consumer goes on.
    Nothing { code: ResponseCode, status: &'static str, next: i64 },
    /// Nothing until the queue has grown beyond this offset.
    Later { wants: QueueOffset, status: &'static str },
    /// The consumer is to go back, if this member knows all that others were told.
    NeedsProof,
    /// Not here any more, but perhaps on the leader.
    AskLeader { status: &'static str },
}

/// Whether this member has applied all that anybody was told before the pull came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// Nobody knows: a leader may have been replaced a moment ago, a follower may lag. What lies
    /// beyond its end may have been read elsewhere.
    NotAsked,
    /// It has, and the log has proven it.
    Given,
    /// There was no proof to be had.
    Failed,
}

/// Who reads for a pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Leader,
    Follower,
}

/// What reading for `pull` comes to.
pub(super) fn verdict(outcome: Outcome, pull: &Pull, by: By) -> Verdict {
    let moved = |status, next| Verdict::Nothing {
        code: ResponseCode::PULL_OFFSET_MOVED,
        status,
        next: as_i64(next),
    };
    let again = |status, next| Verdict::Nothing {
        code: ResponseCode::PULL_RETRY_IMMEDIATELY,
        status,
        next,
    };
    let back = |wants, status, next| match pull.proof {
        Proof::NotAsked => Verdict::NeedsProof,
        Proof::Given => moved(status, next),
        Proof::Failed => Verdict::Later { wants, status },
    };
    // A negative offset is wrong wherever it is asked for.
    let asked = u64::try_from(pull.offset).map(QueueOffset);
    match (outcome, asked) {
        (Outcome::Found { units, next }, _) => Verdict::Messages { units, next },
        (Outcome::NoMatched { next }, _) if pull.was_held && pull.deadline.is_some() => {
            Verdict::Later { wants: next, status: "NO_MATCHED_MESSAGE" }
        }
        (Outcome::NoMatched { next }, _) => again("NO_MATCHED_MESSAGE", as_i64(next)),
        (Outcome::NoneYet, Ok(wants)) => Verdict::Later { wants, status: "OFFSET_OVERFLOW_ONE" },
        (Outcome::NoMessageInQueue, Ok(wants)) if wants == QueueOffset(0) => {
            Verdict::Later { wants, status: "NO_MESSAGE_IN_QUEUE" }
        }
        (Outcome::NoMessageInQueue, Ok(wants)) => {
            back(wants, "NO_MESSAGE_IN_QUEUE", QueueOffset(0))
        }
        (Outcome::NoMessageInQueue | Outcome::NoneYet, Err(_)) => {
            moved("NO_MESSAGE_IN_QUEUE", QueueOffset(0))
        }
        (Outcome::OverflowBadly { next }, Ok(wants)) => back(wants, "OFFSET_OVERFLOW_BADLY", next),
        (Outcome::OverflowBadly { next }, Err(_)) => moved("OFFSET_OVERFLOW_BADLY", next),
        (Outcome::TooSmall { min: _ }, Ok(_)) if by == By::Follower => {
            Verdict::AskLeader { status: "OFFSET_TOO_SMALL" }
        }
        (Outcome::TooSmall { min }, _) => moved("OFFSET_TOO_SMALL", min),
        (Outcome::Removing, _) => again("MESSAGE_WAS_REMOVING", pull.offset),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::subscription::TagFilter;
    use crate::clock;

    fn pull(offset: i64) -> Pull {
        Pull {
            topic: "T".into(),
            group: "g".into(),
            queue_id: 0,
            offset,
            messages_max: 32,
            filter: TagFilter::All,
            deadline: None,
            when_behind: 1,
            group_sys_flag: 0,
            repaired: None,
            by_push: true,
            was_held: false,
            proof: Proof::NotAsked,
        }
    }

    #[test]
    fn who_has_proven_to_know_all_corrects_offsets_and_a_follower_does_not_say_what_is_gone() {
        const PROVE: (i32, i64) = (0, 0);
        const ASK_LEADER: (i32, i64) = (0, 1);
        let at = QueueOffset;
        let later = |wants: i64| (19, wants);
        let all = |told| [told; 4];
        let rows = [
            // what was found, offset asked for, (code, next): not asked, proven, not proven on any
            // member; on a follower that has proven it
            (Outcome::NoneYet, 5, all(later(5))),
            (Outcome::NoMessageInQueue, 0, all(later(0))),
            (Outcome::NoMessageInQueue, 7, [PROVE, (21, 0), later(7), (21, 0)]),
            (Outcome::NoMessageInQueue, -1, all((21, 0))),
            (Outcome::OverflowBadly { next: at(9) }, 30, [PROVE, (21, 9), later(30), (21, 9)]),
            (Outcome::TooSmall { min: at(4) }, 2, [(21, 4), (21, 4), (21, 4), ASK_LEADER]),
            (Outcome::TooSmall { min: at(4) }, -1, all((21, 4))),
            (Outcome::NoMatched { next: at(8) }, 3, all((20, 8))),
            (Outcome::Removing, 3, all((20, 3))),
        ];
        let cases = [
            (Proof::NotAsked, By::Leader),
            (Proof::Given, By::Leader),
            (Proof::Failed, By::Leader),
            (Proof::Given, By::Follower),
        ];
        for (outcome, offset, told) in rows {
            for ((proof, by), want) in cases.into_iter().zip(told) {
                let pull = Pull { proof, ..pull(offset) };
                let got = match verdict(outcome.clone(), &pull, by) {
                    Verdict::Nothing { code, next, .. } => (code.0, next),
                    Verdict::Later { wants, .. } => (19, as_i64(wants)),
                    Verdict::NeedsProof => PROVE,
                    Verdict::AskLeader { .. } => ASK_LEADER,
                    Verdict::Messages { .. } => panic!("{outcome:?}"),
                };
                assert_eq!(got, want, "{outcome:?} at {offset}, {proof:?} {by:?}");
            }
        }
    }

    #[test]
    fn a_held_pull_waits_on_when_what_came_does_not_match() {
        let held = Pull { was_held: true, deadline: Some(clock::now()), ..pull(3) };
        let come = || Outcome::NoMatched { next: QueueOffset(8) };
        let later = Verdict::Later { wants: QueueOffset(8), status: "NO_MATCHED_MESSAGE" };
        assert_eq!(verdict(come(), &held, By::Leader), later);
        let expired = Pull { deadline: None, ..held };
        let told = verdict(come(), &expired, By::Leader);
        assert!(matches!(told, Verdict::Nothing { next: 8, .. }));
    }
}
