//! Disks that are too small or become full, on file systems of their own. Only where this user may
//! mount; elsewhere the tests of the library, on simulated disks, must do.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use rmq::{clock, protocol::codes::RequestCode, protocol::command::RemotingCommand};

use super::{BROKER, Caller, Process, Site, WITHIN, free_port, group::Group};

/// How soon service is back once there is room.
const BACK_WITHIN: Duration = Duration::from_secs(10);

/// Runs `what` where the folder `store` of the site is a file system of `mib` MiB.
fn on_small_disk(site: &Site, store: &str, mib: u32, what: &str) -> Process {
    fs::create_dir_all(site.path(store)).unwrap();
    let mut shell = Command::new("unshare");
    let script = format!("mount -t tmpfs -o size={mib}m none {store} && {what}");
    // Processes of the namespace go with its first one.
    shell.args(["--map-root-user", "--mount", "--pid", "--fork", "--kill-child"]);
    Process::spawn(shell.args(["sh", "-c", &script]), site.dir.path())
}

fn may_mount(site: &Site) -> bool {
    let may = on_small_disk(site, "tried", 1, "true").end().code == Some(0);
    if !may {
        eprintln!("this user may not mount: nothing was tested");
    }
    may
}

#[test]
fn a_disk_too_small_for_a_new_store_is_one_line_with_the_numbers() {
    let site = Site::new();
    if !may_mount(&site) {
        return;
    }
    let file = site.broker(free_port(), "");
    let what = format!("{BROKER} -c {file} || {{ ls -A store | grep -vx store.lock; exit 1; }}");
    let ended = on_small_disk(&site, "store", 4, &what).end();
    let line = ended.only_line();
    let store = site.path("store").display().to_string();
    for text in [&*store, "18874368 bytes", "4190208 are free", "mappedFileSizeCommitLog"] {
        assert!(line.contains(text), "`{text}` is not in {line}");
    }
}

#[test]
fn a_segment_beyond_the_limit_of_the_process_is_one_line_and_no_signal() {
    let site = Site::new();
    let file = site.broker(free_port(), "");
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("ulimit -f 1000 && exec {BROKER} -c {file}")]);
    let ended = Process::spawn(&mut shell, site.dir.path()).end();
    let errors: Vec<_> = ended.err.iter().filter(|line| line.contains(" ERROR ")).collect();
    assert!(ended.code == Some(1) && errors.len() == 1, "{ended:#?}");
    for text in ["create segment", "larger than it may be", "ulimit -f"] {
        assert!(errors[0].contains(text), "`{text}` is not in {}", errors[0]);
    }
}

/// Three members, each on a disk of its own.
struct SmallDisks {
    group: Group,
    members: Vec<Process>,
}

impl SmallDisks {
    fn start() -> Self {
        let group = Group::new();
        let members = (0..3)
            .map(|n| {
                let store = format!("n{n}");
                let file = group.configure(n, &store, &[]);
                on_small_disk(&group.site, &store, 64, &format!("exec {BROKER} -c {file}"))
            })
            .collect();
        Self { group, members }
    }

    /// The file that fills a member's disk, as it is seen from here.
    fn filler(&self, n: usize) -> PathBuf {
        let inside = self.group.site.path(&format!("n{n}")).join("filler");
        let root = format!("/proc/{}/root", self.members[n].id());
        PathBuf::from(root).join(inside.strip_prefix("/").unwrap())
    }

    /// Fills a member's disk, but for a few pages.
    fn fill(&self, n: usize) {
        let mut file = fs::File::create(self.filler(n)).unwrap();
        let piece = [1; 64 << 10];
        loop {
            match file.write_all(&piece) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => return,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

fn pull() -> RemotingCommand {
    RemotingCommand::request(RequestCode::PULL_MESSAGE)
        .with_field("consumerGroup", "g")
        .with_field("topic", "T")
        .with_field("queueId", 0)
        .with_field("queueOffset", 0)
        .with_field("maxMsgNums", 32)
        .with_field("sysFlag", 4)
        .with_field("commitOffset", 0)
        .with_field("suspendTimeoutMillis", 0)
        .with_field("subscription", "*")
        .with_field("subVersion", 0)
        .with_field("expressionType", "TAG")
}

#[tokio::test]
async fn a_full_group_refuses_before_the_log_serves_reads_and_is_back_soon_after_room_is() {
    if !may_mount(&Site::new()) {
        return;
    }
    let (disks, caller) = (SmallDisks::start(), Caller::new());
    disks.group.send(&caller).await;
    let leader = disks.group.leader(&caller).await;
    assert_eq!(caller.ask(disks.group.listen[leader], pull()).await.code, 0);

    disks.fill(leader);
    let deadline = clock::now() + WITHIN;
    while disks.group.leader(&caller).await == leader {
        disks.group.send(&caller).await;
        assert!(clock::now() < deadline, "a member without room leads on");
    }

    (0..3).filter(|n| *n != leader).for_each(|n| disks.fill(n));
    let refusal = loop {
        let mut refusal = None;
        for port in disks.group.listen {
            let answer = caller.try_send(port, "T").await.unwrap();
            let full = |remark: &String| answer.code == 14 && remark.contains("no disk space");
            refusal = answer.remark.clone().filter(full).or(refusal);
        }
        if let Some(refusal) = refusal {
            break refusal;
        }
        assert!(clock::now() < deadline, "messages are still taken, or nobody leads");
    };
    for text in ["/commitlog: the disk is ", " bytes free), the limit is 90 %: ", "free space"] {
        assert!(refusal.contains(text), "`{text}` is not in {refusal}");
    }
    for port in disks.group.listen {
        assert_eq!(caller.ask(port, pull()).await.code, 0, "reads go on");
    }

    (0..3).for_each(|n| fs::remove_file(disks.filler(n)).unwrap());
    let room = clock::now();
    disks.group.send(&caller).await;
    assert!(room.elapsed() < BACK_WITHIN, "{:?}", room.elapsed());
}
