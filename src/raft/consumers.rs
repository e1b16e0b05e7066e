//! Consumers that are connected to other members. A member that clients have not known for long has
//! the heartbeats of some only, and asks the others for the rest. Who consumes is the broker's
//! business: here it is names.
//!
//! ```text
//!  questions ─► wait (1024) ─► one call to each other member, about all groups ─► 300 ms at most
//!                                                 answers ◄── the union of what came in time ◄──┘
//! ```
//!
//! One round at a time: a thousand consumers that ask at once cost others a few calls. A question
//! is answered by a round that began after it was asked. Who cannot be reached adds nothing; nor does
//! an older build, which does not know the call: as long as there is one, what others say is not all
//! ([`Consumers::others_tell`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tonic::Code;

use crate::raft::network::{Network, is_of_a_lost_connection};
use crate::raft::wire::proto;

/// Questions that wait for a round.
const WAITING: usize = 1024;
/// Groups in one call.
pub(super) const GROUPS_MAX: usize = 64;
/// Bytes of ids in one answer, [`ID_BYTES`] more for each: 30,000 of usual length.
const IDS_BYTES_MAX: usize = 1024 * 1024;
/// What an id takes besides itself.
const ID_BYTES: usize = 4;
/// Longest id that is taken from others, bytes; the broker takes no longer ones from clients.
const ID_BYTES_MAX: usize = 1024;
/// How long others may take to answer.
const ANSWER: Duration = Duration::from_millis(300);
/// How long who asks waits: a round under way, its own, and a little.
const PATIENCE: Duration = Duration::from_millis(700);
/// How old what is known of the others' builds may get.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a member's broker knows of its consumers. Called on the raft thread: must be short and must
/// not block.
pub trait ConnectedConsumers: Send + Sync {
    /// Gives `take` the ids of a group's consumers, until it returns that it has enough.
    fn each_of(&self, group: &str, take: &mut dyn FnMut(&str) -> Taken);
}

/// Whether more is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// The next one, too.
    GoOn,
    /// There is room for no more.
    Enough,
}

/// Consumers of this member, for others, and those of others, for this one. Cloning shares it.
#[derive(Clone)]
pub(super) struct Consumers {
    own: Arc<RwLock<Option<Arc<dyn ConnectedConsumers>>>>,
    rounds: Rounds,
    questions: mpsc::Sender<Question>,
}

/// What the rounds so far have shown of the others. Cloning shares it.
#[derive(Clone, Default)]
struct Rounds(Arc<Mutex<Shown>>);

#[derive(Clone, Copy, Default)]
struct Shown {
    /// When the last one ended.
    at: Option<Instant>,
    tell: bool,
}

type Answer = oneshot::Sender<Arc<BTreeSet<String>>>;
/// Who consumes in which group.
type Found = BTreeMap<String, Arc<BTreeSet<String>>>;

/// What may be asked.
pub(super) enum Question {
    /// Who consumes in a group?
    OfGroup { group: String, answer: Answer },
    /// Do others know the call?
    WhetherOthersTell,
}

/// What came of calling one member.
enum Heard {
    Told(proto::ConsumersResponse),
    /// It is of a build that does not know the call.
    Unknown,
    Nothing,
}

impl Consumers {
    /// Nobody is connected yet; questions are for [`run`].
    pub(super) fn new() -> (Self, Asked) {
        let (questions, asked) = mpsc::channel(WAITING);
        let (own, rounds) = (Arc::default(), Rounds::default());
        let asked = Asked { questions: asked, rounds: rounds.clone() };
        (Self { own, rounds, questions }, asked)
    }

    /// From now on others are told of these.
    pub(super) fn set(&self, own: Arc<dyn ConnectedConsumers>) {
        *self.own.write() = Some(own);
    }

    /// What others are told: for each of these groups, who consumes here.
    pub(super) fn own(&self, groups: &[String]) -> proto::ConsumersResponse {
        let own = self.own.read().clone();
        let mut room = IDS_BYTES_MAX;
        let groups = groups.iter().map(|group| {
            let mut ids = Vec::new();
            let mut take = |id: &str| match room.checked_sub(id.len() + ID_BYTES) {
                Some(left) => {
                    room = left;
                    ids.push(id.to_owned());
                    Taken::GoOn
                }
                None => Taken::Enough,
            };
            own.iter().for_each(|own| own.each_of(group, &mut take));
            proto::ConsumerIds { ids }
        });
        proto::ConsumersResponse { groups: groups.collect() }
    }

    /// Who consumes in a group elsewhere, as far as others say in time. Nobody, if too many ask.
    pub(super) async fn elsewhere(&self, group: String) -> Arc<BTreeSet<String>> {
        let (answer, answered) = oneshot::channel();
        if self.questions.try_send(Question::OfGroup { group, answer }).is_err() {
            return Arc::default();
        }
        let answer = tokio::time::timeout(PATIENCE, answered).await;
        answer.ok().and_then(Result::ok).unwrap_or_default()
    }

    /// Whether others say who consumes there, all that can be reached. Looked at once a second, when
    /// somebody asks for it, and not at once.
    pub(super) fn others_tell(&self) -> bool {
        let Shown { at, tell } = *self.rounds.0.lock();
        if at.is_none_or(|at| at.elapsed() >= LOOK_EVERY) {
            // If too many wait, a round is near.
            let _ = self.questions.try_send(Question::WhetherOthersTell);
        }
        tell
    }
}

/// Where questions come in.
pub(super) struct Asked {
    questions: mpsc::Receiver<Question>,
    rounds: Rounds,
}

/// Answers as long as its member lives.
pub(super) async fn run(network: Network, mut asked: Asked) {
    let mut questions = Vec::new();
    while asked.questions.recv_many(&mut questions, WAITING).await > 0 {
        let mut waiting: BTreeMap<String, Vec<Answer>> = BTreeMap::new();
        for question in questions.drain(..) {
            if let Question::OfGroup { group, answer } = question {
                waiting.entry(group).or_default().push(answer);
            }
        }
        loop {
            waiting.retain(|_, answers| answers.iter().any(|answer| !answer.is_closed()));
            let groups: Vec<String> = waiting.keys().take(GROUPS_MAX).cloned().collect();
            for (group, ids) in round(&network, &asked.rounds, groups).await {
                for answer in waiting.remove(&group).into_iter().flatten() {
                    // Whoever asked may have gone.
                    let _ = answer.send(Arc::clone(&ids));
                }
            }
            if waiting.is_empty() {
                break;
            }
        }
    }
}

/// Asks all others about these groups, perhaps none.
async fn round(network: &Network, rounds: &Rounds, groups: Vec<String>) -> Found {
    let others = network.others();
    let heard = join_all(others.iter().map(|name| ask(network, name, &groups))).await;
    {
        let mut shown = rounds.0.lock();
        *shown = Shown { at: Some(Instant::now()), tell: tell(shown.tell, &heard) };
    }
    union(groups, heard)
}

async fn ask(network: &Network, name: &str, groups: &[String]) -> Heard {
    let asked = async {
        match network.consumers(name, groups.to_vec(), ANSWER).await {
            Err(status) if is_of_a_lost_connection(status.code()) => {
                network.consumers(name, groups.to_vec(), ANSWER).await
            }
            answer => answer,
        }
    };
    match tokio::time::timeout(ANSWER, asked).await {
        Ok(Ok(told)) => Heard::Told(told),
        Ok(Err(status)) if status.code() == Code::Unimplemented => Heard::Unknown,
        Ok(Err(status)) => {
            tracing::debug!(peer = name, %status, "does not say who consumes");
            Heard::Nothing
        }
        Err(_) => Heard::Nothing,
    }
}

/// Whether others tell, after a round: one that does not know the call says no for all, one that
/// answers yes, and if nobody can be reached it is as before. Pure.
fn tell(before: bool, heard: &[Heard]) -> bool {
    let is_unknown = heard.iter().any(|heard| matches!(heard, Heard::Unknown));
    let is_told = heard.iter().any(|heard| matches!(heard, Heard::Told(_)));
    !is_unknown && (is_told || before)
}

/// Who consumes in each of `groups`, in the order of which others answered. Pure.
fn union(groups: Vec<String>, heard: Vec<Heard>) -> Found {
    let mut found = vec![BTreeSet::new(); groups.len()];
    let told = heard.into_iter().filter_map(|heard| match heard {
        Heard::Told(answer) => Some(answer),
        Heard::Unknown | Heard::Nothing => None,
    });
    for answer in told.filter(|answer| answer.groups.len() == groups.len()) {
        for (found, of) in found.iter_mut().zip(answer.groups) {
            found.extend(of.ids.into_iter().filter(|id| (1..=ID_BYTES_MAX).contains(&id.len())));
        }
    }
    groups.into_iter().zip(found.into_iter().map(Arc::new)).collect()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;
    use crate::raft::Group;
    use crate::raft::group_tests::Cluster;

    struct Many;

    impl ConnectedConsumers for Many {
        fn each_of(&self, group: &str, take: &mut dyn FnMut(&str) -> Taken) {
            let count = if group == "few" { 2 } else { usize::MAX };
            let ids = (0..count).map(|n| format!("{group}-{n:0>1000}"));
            let mut offered = ids.take_while(|id| take(id) == Taken::GoOn);
            assert!(offered.nth(IDS_BYTES_MAX / 1000).is_none(), "it has no end");
        }
    }

    #[test]
    fn what_others_are_told_has_a_bound() {
        let (consumers, _asked) = Consumers::new();
        let groups = ["few", "many", "more"].map(str::to_owned);
        let count = |told: &proto::ConsumersResponse| -> Vec<usize> {
            told.groups.iter().map(|of| of.ids.len()).collect()
        };
        assert_eq!(count(&consumers.own(&groups)), [0; 3], "before the broker is there");
        consumers.set(Arc::new(Many));
        let told = consumers.own(&groups);
        assert_eq!(count(&told), [2, 1037, 0]);
        assert!(prost::Message::encoded_len(&told) < IDS_BYTES_MAX + 1024);
    }

    #[test]
    fn all_that_anybody_says_counts_and_nothing_that_makes_no_sense() {
        let groups = || ["g", "h"].map(str::to_owned).to_vec();
        let answer = |of: &[&[&str]]| {
            let ids = |ids: &&[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
            let groups = of.iter().map(|of| proto::ConsumerIds { ids: ids(of) }).collect();
            proto::ConsumersResponse { groups }
        };
        let long = "x".repeat(ID_BYTES_MAX + 1);
        let answers = [
            answer(&[&["a", "b"], &[]]),
            answer(&[&["b", "c"], &["d", "", &long]]),
            answer(&[&["of which group?"]]),
        ];
        let heard: Vec<Heard> = answers.into_iter().map(Heard::Told).collect();
        let found = union(groups(), heard.into_iter().chain([Heard::Nothing]).collect());
        let of = |group: &str| found[group].iter().map(String::as_str).collect::<Vec<_>>();
        assert_eq!((of("g"), of("h")), (vec!["a", "b", "c"], vec!["d"]));
        assert!(union(groups(), Vec::new()).values().all(|of| of.is_empty()));
    }

    #[test]
    fn others_tell_unless_one_does_not_know_the_call() {
        let told = || Heard::Told(proto::ConsumersResponse::default());
        let rows = [
            // before, heard, tell
            (false, vec![told(), Heard::Nothing], true),
            (false, vec![told(), Heard::Unknown], false),
            (true, vec![Heard::Unknown, told()], false),
            (true, vec![Heard::Nothing, Heard::Nothing], true),
            (false, vec![Heard::Nothing], false),
            (false, vec![], false),
        ];
        for (row, (before, heard, want)) in rows.into_iter().enumerate() {
            assert_eq!(tell(before, &heard), want, "row {row}");
        }
    }

    struct These(&'static [&'static str]);

    impl ConnectedConsumers for These {
        fn each_of(&self, _: &str, take: &mut dyn FnMut(&str) -> Taken) {
            self.0.iter().for_each(|id| assert_eq!(take(id), Taken::GoOn));
        }
    }

    /// Asks `group` about so many groups at a time, until it says of each that these, and nobody
    /// else, consume elsewhere.
    async fn until_elsewhere(group: &Group, groups: usize, want: &[&str]) {
        let ask = || (0..groups).map(|n| group.consumers_elsewhere(format!("g{n}")));
        let asked = async { while join_all(ask()).await.iter().any(|of| of.iter().ne(want)) {} };
        tokio::time::timeout(PATIENCE * 20, asked).await.expect("others say so in time");
    }

    #[tokio::test]
    async fn members_that_answer_are_heard_whatever_becomes_of_others() {
        let mut cluster = Cluster::new(3);
        let known: [&[&str]; 3] = [&["a", "b"], &["b", "c"], &["d"]];
        let (leader, _) = cluster.leader();
        let (own, gone) = ((leader + 1) % 3, (leader + 2) % 3);
        for (place, ids) in [(leader, known[0]), (own, known[1]), (gone, known[2])] {
            cluster.members[place].as_ref().unwrap().set_consumers(Arc::new(These(ids)));
        }
        let group = cluster.members[own].clone().unwrap();
        until_elsewhere(&group, GROUPS_MAX + 9, &["a", "b", "d"]).await;
        assert!(group.others_tell_consumers());
        cluster.stop(gone);
        until_elsewhere(&group, 1, &["a", "b"]).await;
        let options = cluster.options(gone);
        let port = options.peers.address(&options.member).unwrap().port;
        // Takes calls, and answers none.
        let _silent = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        until_elsewhere(&group, 1, &["a", "b"]).await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_does_not_wait_for_a_thread_that_hangs_nor_behind_too_many() {
        let (consumers, _nobody_answers) = Consumers::new();
        let asking = (0..WAITING).map(|_| {
            let consumers = consumers.clone();
            async move { consumers.elsewhere("g".to_owned()).await }
        });
        let asking = tokio::spawn(join_all(asking.collect::<Vec<_>>()));
        tokio::task::yield_now().await;
        let began = Instant::now();
        assert!(consumers.elsewhere("g".to_owned()).await.is_empty());
        assert_eq!(began.elapsed(), Duration::ZERO, "there is no room for it");
        assert!(asking.await.unwrap().iter().all(|of| of.is_empty()));
        assert_eq!(began.elapsed(), PATIENCE);
    }
}
