//! Starting and stopping a member, step by step.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, mpsc::sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{io, net};

use futures_util::Stream;
use openraft::{Config, Raft, SnapshotPolicy};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::Server;
use tonic::transport::server::{Connected, TcpIncoming};

use crate::clock;
use crate::ids::StoreId;
use crate::raft::applied::AppliedState;
use crate::raft::awaited;
use crate::raft::catch_up::{self, CatchUps};
use crate::raft::checkpointer::StoreParts;
use crate::raft::chronicle::Chronicle;
use crate::raft::commit_news::Eager;
use crate::raft::consumers::{self, Consumers};
use crate::raft::contact::Contact;
use crate::raft::dial::{Link, Tcp};
use crate::raft::doubt::{Doubt, Resolver};
use crate::raft::duplicates::Duplicates;
use crate::raft::forward::Desk;
use crate::raft::forwarded::Forwarded;
use crate::raft::forwarder::Forwarder;
use crate::raft::group::{Group, GroupOptions, Shared};
use crate::raft::handover;
use crate::raft::heard::Heard;
use crate::raft::housekeeping::{self, Housekeeping};
use crate::raft::incoming::admitted;
use crate::raft::log_store::LogStore;
use crate::raft::members::{self, Kept, MemberKeeper, Memory, Telling};
use crate::raft::network::{Connecting, FRAME_BYTES, MESSAGE_BYTES_MAX, Network, WINDOW_BYTES};
use crate::raft::offers::Offers;
use crate::raft::open::{self, Opened};
use crate::raft::pacemaker;
use crate::raft::proposer::{self, Proposer};
use crate::raft::reach;
use crate::raft::repair::{self, Repairer, Wanted};
use crate::raft::role::Role;
use crate::raft::role_watcher::RoleWatcher;
use crate::raft::room::Room;
use crate::raft::rpc_server::PeerService;
use crate::raft::scrub::ScrubRules;
use crate::raft::scrubber::{Scrubber, Scrubbing};
use crate::raft::state_machine::StateMachine;
use crate::raft::succession::Succession;
use crate::raft::transfer::{self, Transfers};
use crate::raft::type_config::TypeConfig;
use crate::raft::wire::proto::peer_server::PeerServer;
use crate::raft::{ProposeError, StartError};
use crate::store::{CommitLog, Files, StoreFile, Unfinished};
use crate::telemetry::log_limit::LogLimit;

type Core = Raft<TypeConfig, StateMachine>;

/// Calls under way of one connection. A peer has a few: votes, heartbeats, questions.
const CALLS_MAX: u32 = 32;
/// How long what was held for a successor may take to be passed on to it.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Opens the store on `files`, then runs the member on a thread of its own.
pub(super) fn start(
    files: Arc<dyn Files>,
    options: GroupOptions,
    port: Option<net::TcpListener>,
) -> Result<Group, StartError> {
    let core = |error: io::Error| StartError::Core { why: error.to_string() };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(core)?;
    let (ready, started) = sync_channel(1);
    let (stop, stopped) = oneshot::channel();
    let thread = std::thread::Builder::new()
        .name("raft".to_owned())
        .spawn(move || runtime.block_on(run(files, options, port, ready, stopped)))
        .map_err(core)?;
    let parts = started.recv().map_err(|_| StartError::Core {
        why: "the raft thread ended before it had started".to_owned(),
    })??;
    Ok(parts.into_group(Some(stop), Some(thread)))
}

/// What the raft thread hands out once it runs.
pub(super) struct Parts {
    raft: Core,
    proposer: Proposer,
    desk: Desk,
    chronicle: Chronicle,
    state: AppliedState,
    duplicates: Duplicates,
    log: CommitLog,
    log_store: LogStore,
    role: watch::Receiver<Role>,
    store_id: StoreId,
    room: Arc<Room>,
    doubt: Doubt,
    offers: Offers,
    repairs: mpsc::Sender<Wanted>,
    transfers: mpsc::Sender<transfer::Wanted>,
    contact: Contact,
    reaches: mpsc::Sender<reach::Asked>,
    consumers: Consumers,
    kept: Kept,
    scrub: Scrubbing,
    catch_ups: CatchUps,
}

impl Parts {
    /// The handle that others hold; `stop` and `thread` end the member.
    pub(super) fn into_group(
        self,
        stop: Option<oneshot::Sender<()>>,
        thread: Option<JoinHandle<()>>,
    ) -> Group {
        let (stop, thread) = (Mutex::new(stop), Mutex::new(thread));
        Group(Arc::new(Shared {
            raft: self.raft,
            proposer: self.proposer,
            desk: self.desk,
            chronicle: self.chronicle,
            state: self.state,
            duplicates: self.duplicates,
            log: self.log,
            log_store: self.log_store,
            role: self.role,
            store_id: self.store_id,
            room: self.room,
            doubt: self.doubt,
            offers: self.offers,
            repairs: self.repairs,
            transfers: self.transfers,
            contact: self.contact,
            reaches: self.reaches,
            consumers: self.consumers,
            kept: self.kept,
            scrub: self.scrub,
            catch_ups: self.catch_ups,
            stop,
            thread,
        }))
    }
}

async fn run(
    files: Arc<dyn Files>,
    options: GroupOptions,
    port: Option<net::TcpListener>,
    ready: std::sync::mpsc::SyncSender<Result<Parts, StartError>>,
    stop: oneshot::Receiver<()>,
) {
    let ending = CancellationToken::new();
    let started = async {
        let opened = open::open(files, Arc::new(Tcp), &options, &ending).await?;
        let incoming = port.map(incoming).transpose();
        let incoming = incoming.map_err(|error| StartError::Core { why: error.to_string() })?;
        Member::start(&options, opened, incoming, ending.clone()).await
    };
    let member = match started.await {
        Ok(member) => member,
        Err(error) => {
            // The starter waits for exactly this.
            let _ = ready.send(Err(error));
            return;
        }
    };
    // The starter waits for exactly this.
    let _ = ready.send(Ok(member.parts()));
    drop(ready);
    // A dropped handle stops the member as well.
    let _ = stop.await;
    member.stop().await;
}

fn incoming(port: net::TcpListener) -> io::Result<TcpIncoming> {
    port.set_nonblocking(true)?;
    Ok(TcpIncoming::from(TcpListener::from_std(port)?).with_nodelay(Some(true)))
}

/// A running member, on the raft thread.
pub(super) struct Member {
    raft: Core,
    proposer: Proposer,
    chronicle: Chronicle,
    machine: StateMachine,
    log: CommitLog,
    log_store: LogStore,
    role: watch::Receiver<Role>,
    store_id: StoreId,
    doubt: Doubt,
    offers: Offers,
    repairs: mpsc::Sender<Wanted>,
    transfers: mpsc::Sender<transfer::Wanted>,
    reaches: mpsc::Sender<reach::Asked>,
    consumers: Consumers,
    kept: Kept,
    housekeeping: Housekeeping,
    room: Arc<Room>,
    contact: Contact,
    scrub: Scrubbing,
    catch_ups: CatchUps,
    tasks: JoinSet<()>,
    ending: CancellationToken,
}

impl Member {
    /// Takes part in the group with an opened store; peers come in by `incoming`.
    pub(super) async fn start<L: Link + Connected + 'static>(
        options: &GroupOptions,
        opened: Opened,
        incoming: Option<impl Stream<Item = io::Result<L>> + Send + 'static>,
        ending: CancellationToken,
    ) -> Result<Self, StartError> {
        let Opened { store, log, votes, machine, parts, room, own, network, repairs } = opened;
        refuse_unfinished(&store.stamp, &options.member)?;
        let (store_id, state) = (store.stamp.id(), machine.state().clone());
        let log_store =
            LogStore::new(log.clone(), votes, state.clone(), Arc::clone(&room), repairs.clone());
        let doubt = Doubt::new(store.stamp.in_doubt());
        let (eager, offers, desk) = (Eager::default(), Offers::default(), machine.desk().clone());
        let (heard, chronicle) = signs_of_life(options, &desk);
        let catch_ups = CatchUps::new(options.catch_up_bytes_per_second, &log, &network);
        let (fit, news) = ((&doubt, &room, &offers), (&eager, &chronicle));
        let storage = (store_id, &log_store, &machine);
        let raft = core(options, storage, (&network, &catch_ups), fit, news).await?;
        let (mut tasks, gone, beats) = (JoinSet::new(), Arc::default(), Beats(Instant::now()));
        let (telling, kept) = members::telling(incoming.is_some(), network.belonging());
        let core = (raft.clone(), state.clone(), network.clone());
        let life = (Arc::clone(&heard), chronicle.clone(), kept.removed.clone());
        let parties = (&machine, (doubt.clone(), catch_ups.clone()));
        let (role, contact) = watch(options, core, life, parties, (beats, &mut tasks));
        let proposer = propose(options, &raft, &machine, &mut tasks);
        pass_on(&machine, &network, &proposer, (&role, &room), (options, &kept), &mut tasks);
        let core = (&raft, &role, &network);
        let moving = transferring(options, core, (&proposer, &desk, &chronicle), fit);
        let (transfers, yields) = move_leadership(moving, beats, &mut tasks);
        let (scrub, repairs) = mend(options.scrub, &parts, (&state, &room), repairs, &mut tasks);
        let (core, news) = ((&raft, &log, fit), (Arc::clone(&heard), gone, chronicle.clone()));
        let calls = call_others(&options.member, &network, core, news.clone(), &mut tasks);
        let (reaches, consumers) = calls;
        if let Some(incoming) = incoming {
            let forwarded = take_over(&machine, &proposer, (&role, &room), eager);
            let fitness = (doubt.clone(), Arc::clone(&room), offers.clone());
            let stored = (&parts, state.clone(), scrub.checked.clone());
            let (core, serves) =
                ((raft.clone(), role.clone(), yields), (forwarded, consumers.clone()));
            let caller = (own, network.belonging().clone());
            let service = PeerService::new(caller, core, stored, fitness, news, serves);
            tasks.spawn(serve_peers(incoming, service, ending.clone().cancelled_owned()));
        }
        let stamp = (&store.stamp, &parts.files);
        resolve(&doubt, &options.member, (&network, &raft, &log), stamp, &mut tasks);
        let core = (store_id, raft.clone(), network.clone());
        tasks.spawn(keeper(options, core, (&role, heard), (&transfers, &proposer), telling).run());
        let (fitness, core) = ((fit, chronicle.clone()), (raft.clone(), network));
        let house = Housekeeping::start(parts, machine.clone(), core, store, fitness, options)?;
        tasks.spawn(house.clone().run(beats.each(housekeeping::TICK)));
        Ok(Self {
            raft,
            proposer,
            chronicle,
            machine,
            log,
            log_store,
            role,
            store_id,
            doubt,
            offers,
            repairs,
            transfers,
            reaches,
            consumers,
            kept,
            housekeeping: house,
            room,
            contact,
            scrub,
            catch_ups,
            tasks,
            ending,
        })
    }

    /// What others hold of it.
    pub(super) fn parts(&self) -> Parts {
        Parts {
            raft: self.raft.clone(),
            proposer: self.proposer.clone(),
            desk: self.machine.desk().clone(),
            chronicle: self.chronicle.clone(),
            state: self.machine.state().clone(),
            duplicates: self.machine.duplicates().clone(),
            log: self.log.clone(),
            log_store: self.log_store.clone(),
            role: self.role.clone(),
            store_id: self.store_id,
            room: Arc::clone(&self.room),
            doubt: self.doubt.clone(),
            offers: self.offers.clone(),
            repairs: self.repairs.clone(),
            transfers: self.transfers.clone(),
            contact: self.contact.clone(),
            reaches: self.reaches.clone(),
            consumers: self.consumers.clone(),
            kept: self.kept.clone(),
            scrub: self.scrub.clone(),
            catch_ups: self.catch_ups.clone(),
        }
    }

    /// Retires, writes a checkpoint and ends.
    pub(super) async fn stop(mut self) {
        let desk = self.machine.desk();
        let fitness = (&self.doubt, &*self.room, &self.offers);
        handover::retire(&self.raft, &self.proposer, (desk, &self.chronicle), fitness).await;
        desk.close(LAST_ANSWERS).await;
        self.ending.cancel();
        self.room.end();
        if let Err(error) = self.raft.shutdown().await {
            tracing::error!(%error, "the raft core did not end cleanly");
        }
        self.tasks.abort_all();
        while self.tasks.join_next().await.is_some() {}
        self.housekeeping.finish();
    }
}

fn config(options: &GroupOptions, doubt: &Doubt) -> Result<Arc<Config>, String> {
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let config = Config {
        cluster_name: options.group.clone(),
        election_timeout_min: ms(options.timing.election_min),
        election_timeout_max: ms(options.timing.election_max),
        heartbeat_interval: ms(options.timing.heartbeat),
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: 0,
        replication_lag_threshold: u64::MAX,
        install_snapshot_timeout: 60_000,
        max_payload_entries: 4096,
        enable_pre_vote: Some(true),
        enable_elect: doubt.is_over(),
        // A member may come back with less than it acknowledged: it gets the rest again.
        allow_log_reversion: Some(true),
        // Leadership is always won by votes: what a former life knew may be outdated.
        enable_leader_restore: Some(false),
        ..Config::default()
    };
    config.validate().map(Arc::new).map_err(|error| error.to_string())
}

/// openraft's own tasks.
async fn core(
    options: &GroupOptions,
    (store_id, log_store, machine): (StoreId, &LogStore, &StateMachine),
    (network, catch_ups): (&Network, &CatchUps),
    (doubt, room, offers): (&Doubt, &Arc<Room>, &Offers),
    news: (&Eager, &Chronicle),
) -> Result<Core, StartError> {
    let connecting = Connecting::new(network, room, doubt, offers, news, catch_ups);
    let config = config(options, doubt).map_err(|why| StartError::Core { why })?;
    Raft::new(store_id.0, config, connecting, log_store.clone(), machine.clone())
        .await
        .map_err(|fatal| StartError::Core { why: fatal.to_string() })
}

/// What looks at openraft at each beat, and has it beat.
fn watch(
    options: &GroupOptions,
    (raft, state, network): (Core, AppliedState, Network),
    (heard, chronicle, removed): (Arc<Heard>, Chronicle, watch::Receiver<bool>),
    (machine, (doubt, catch_ups)): (&StateMachine, (Doubt, CatchUps)),
    (beats, tasks): (Beats, &mut JoinSet<()>),
) -> (watch::Receiver<Role>, Contact) {
    let waits = (machine.desk().clone(), machine.duplicates().passers().clone());
    let (pace, fit) = (beats.each(options.timing.heartbeat), (doubt, removed.clone()));
    tasks.spawn(pacemaker::run(raft.clone(), Arc::clone(&heard), fit, pace));
    tasks.spawn(send_away(waits.0.clone(), removed.clone()));
    tasks.spawn(catch_ups.watch(raft.clone(), beats.each(catch_up::LOOK)));
    let watcher = RoleWatcher::new((raft, state, network), (heard, chronicle, removed));
    watcher.start(options, waits, (beats, tasks))
}

/// Refuses what waits at the desk of a member that turns out to have been removed.
async fn send_away(desk: Desk, mut removed: watch::Receiver<bool>) {
    while removed.wait_for(|removed| *removed).await.is_ok() {
        desk.send_away(&ProposeError::Removed);
        if removed.changed().await.is_err() {
            return;
        }
    }
}

/// A recovery that was begun is finished first.
fn refuse_unfinished(stamp: &StoreFile, member: &str) -> Result<(), StartError> {
    match stamp.unfinished() {
        Some(Unfinished { code, .. }) => {
            Err(StartError::Unfinished { member: member.to_owned(), code })
        }
        None => Ok(()),
    }
}

/// When this member heard of a leader, and what it remembers of leaders.
fn signs_of_life(options: &GroupOptions, desk: &Desk) -> (Arc<Heard>, Chronicle) {
    let heard = Arc::new(Heard::new(clock::now(), options.timing.heartbeat));
    let chronicle = Chronicle::new(&options.member, Arc::clone(&heard), desk.clone());
    (heard, chronicle)
}

/// Follows a leader that died, and calls all others for who asks.
fn call_others(
    own: &str,
    network: &Network,
    (raft, log, (doubt, _, offers)): (&Core, &CommitLog, (&Doubt, &Arc<Room>, &Offers)),
    (heard, gone, chronicle): (Arc<Heard>, Arc<Notify>, Chronicle),
    tasks: &mut JoinSet<()>,
) -> (mpsc::Sender<reach::Asked>, Consumers) {
    let core = (raft.clone(), log.clone(), doubt.clone());
    let own = (own.to_owned(), offers.clone());
    let news = (gone, heard, chronicle);
    let succession = Succession::new(own, network.clone(), core, news);
    tasks.spawn(succession.run());
    let (reaches, asked) = reach::requests();
    tasks.spawn(reach::run(network.clone(), asked));
    let (consumers, asked) = Consumers::new();
    tasks.spawn(consumers::run(network.clone(), asked));
    (reaches, consumers)
}

/// What looks after the group's members.
fn keeper(
    options: &GroupOptions,
    (store_id, raft, network): (StoreId, Core, Network),
    (role, heard): (&watch::Receiver<Role>, Arc<Heard>),
    (transfers, proposer): (&mpsc::Sender<transfer::Wanted>, &Proposer),
    telling: Telling,
) -> MemberKeeper {
    MemberKeeper {
        own: (options.member.clone(), store_id),
        peers: options.peers.clone(),
        active: network.active().clone(),
        network,
        proposer: proposer.clone(),
        raft,
        role: role.clone(),
        heard,
        farewell: options.timing.farewell,
        transfers: transfers.clone(),
        telling,
        memory: Memory::default(),
    }
}

/// Makes entries of what is proposed.
fn propose(
    options: &GroupOptions,
    raft: &Core,
    machine: &StateMachine,
    tasks: &mut JoinSet<()>,
) -> Proposer {
    let limits = options.limits.within(options.segment_bytes);
    let (proposer, inbox) = Proposer::new(limits, machine.desk().clone());
    tasks.spawn(proposer::run(inbox, raft.clone(), machine.duplicates().clone()));
    proposer
}

/// Starts `moving`; returns where transfers are asked for, and whether an operator asked for one.
fn move_leadership(
    moving: Transfers,
    beats: Beats,
    tasks: &mut JoinSet<()>,
) -> (mpsc::Sender<transfer::Wanted>, Arc<AtomicBool>) {
    let (transfers, asked) = transfer::requests();
    let yields = Arc::clone(&moving.yields);
    tasks.spawn(moving.run(asked, beats.each(transfer::LOOK)));
    (transfers, yields)
}

/// Checks the disk, as `rules` say, and repairs what that and readers find damaged.
fn mend(
    rules: ScrubRules,
    parts: &StoreParts,
    (state, room): (&AppliedState, &Arc<Room>),
    repairs: Repairer,
    tasks: &mut JoinSet<()>,
) -> (Scrubbing, mpsc::Sender<Wanted>) {
    let (scrub, rules) = Scrubbing::new(rules);
    let scrubber = Scrubber {
        parts: parts.clone(),
        applied: state.clone(),
        room: Arc::clone(room),
        network: repairs.network().clone(),
        repairs: repairs.clone(),
        checked: scrub.checked.clone(),
        counts: Arc::clone(&scrub.counts),
        rules,
        told: LogLimit::minutely(),
    };
    tasks.spawn(scrubber.run());
    let (wanted_repairs, wanted) = repair::requests();
    tasks.spawn(repairs.serve(parts.log.clone(), state.clone(), wanted));
    (scrub, wanted_repairs)
}

/// What moves leadership to whom an operator wants to lead.
fn transferring(
    options: &GroupOptions,
    (raft, role, network): (&Core, &watch::Receiver<Role>, &Network),
    (proposer, desk, chronicle): (&Proposer, &Desk, &Chronicle),
    (doubt, room, offers): (&Doubt, &Arc<Room>, &Offers),
) -> Transfers {
    Transfers {
        own: options.member.clone(),
        preferred: options.preferred.clone(),
        steady: options.timing.steady,
        raft: raft.clone(),
        network: network.clone(),
        proposer: proposer.clone(),
        desk: desk.clone(),
        chronicle: chronicle.clone(),
        doubt: doubt.clone(),
        room: Arc::clone(room),
        offers: offers.clone(),
        role: role.clone(),
        yields: Arc::default(),
    }
}

/// Asks the others for what this member may have forgotten, if it doubts.
fn resolve(
    doubt: &Doubt,
    own: &str,
    (network, raft, log): (&Network, &Core, &CommitLog),
    (stamp, files): (&Arc<StoreFile>, &Arc<dyn Files>),
    tasks: &mut JoinSet<()>,
) {
    if doubt.is_over() {
        return;
    }
    let resolver = Resolver {
        own: own.to_owned(),
        network: network.clone(),
        raft: raft.clone(),
        log: log.clone(),
        stamp: Arc::clone(stamp),
        files: Arc::clone(files),
        doubt: doubt.clone(),
    };
    tasks.spawn(resolver.run());
}

/// Passes on what waits at the desk of `machine`, or answers it in time.
fn pass_on(
    machine: &StateMachine,
    network: &Network,
    proposer: &Proposer,
    (role, room): (&watch::Receiver<Role>, &Arc<Room>),
    (options, kept): (&GroupOptions, &Kept),
    tasks: &mut JoinSet<()>,
) {
    let forwarder = Forwarder {
        desk: machine.desk().clone(),
        network: network.clone(),
        proposer: proposer.clone(),
        active: machine.state().active().clone(),
        role: role.clone(),
        room: Arc::clone(room),
        duplicates: machine.duplicates().clone(),
    };
    tasks.spawn(forwarder.run());
    let (desk, role, member) = (machine.desk().clone(), role.clone(), options.member.clone());
    let waits_for = kept.waits_for.clone();
    tasks.spawn(async move {
        let leader = || role.borrow().leader(&member).map(str::to_owned);
        desk.sweep(|| awaited::unled(leader(), waits_for.borrow().clone())).await;
    });
}

/// Takes what other members pass on to this one as their leader.
fn take_over(
    machine: &StateMachine,
    proposer: &Proposer,
    (role, room): (&watch::Receiver<Role>, &Arc<Room>),
    eager: Eager,
) -> Arc<Forwarded> {
    let active = machine.state().active().clone();
    let desk = (proposer.clone(), machine.desk().clone(), active);
    let hear = (eager, machine.duplicates().clone());
    Forwarded::new(desk, role.clone(), Arc::clone(room), hear)
}

async fn serve_peers<L: Link + Connected + 'static>(
    incoming: impl Stream<Item = io::Result<L>>,
    service: PeerService,
    ended: WaitForCancellationFutureOwned,
) {
    let service = PeerServer::new(service)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let server = Server::builder()
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .max_concurrent_streams(CALLS_MAX)
        .add_service(service);
    let incoming = admitted(incoming);
    if let Err(error) = server.serve_with_incoming_shutdown(incoming, ended).await {
        tracing::error!(%error, "the peer port failed");
    }
}

/// Periods that begin together, so that what is done at their ends wakes an idle thread once.
#[derive(Clone, Copy)]
pub(super) struct Beats(Instant);

impl Beats {
    pub(super) fn each(self, period: Duration) -> Interval {
        let mut beats = tokio::time::interval_at(self.0 + period, period);
        beats.set_missed_tick_behavior(MissedTickBehavior::Skip);
        beats
    }
}
