//! Every mistake that users made, and what they are told.

use super::{broker, inputs, namesrv, refusal};
use crate::config::{
    Peers, load,
    settings::{FileText, Inputs},
};

const GROUP: &str = "enableDLegerCommitLog=true\ndLegerGroup=g\n\
                     dLegerPeers=n0-a:40911;n1-b:40911;n2-c:40911\ndLegerSelfId=n0\n";

/// File, and what is said about it after `broker.conf:`.
const MISTAKES: &[(&str, &str)] = &[
    ("\nbrokerIp1=10.0.0.1", "2: brokerIp1: there is no such key; did you mean brokerIP1?"),
    ("brokerNme=a", "1: brokerNme: there is no such key; did you mean brokerName?"),
    ("Frobnicate=1", "1: Frobnicate: there is no such key"),
    (
        "orderMessageEnable=true",
        "1: orderMessageEnable: is a key of the name server, not of the broker",
    ),
    ("server.port=8080", "1: server.port: is a key of the dashboard, not of the broker"),
    (
        "listenPort=30911 # for clients",
        "1: listenPort: `30911 # for clients` carries a comment, which a properties file does \
             not allow after a value; write `30911` and put the comment on a line of its own",
    ),
    (
        "enableDLegerCommitLog=true#",
        "1: enableDLegerCommitLog: `true#` carries a comment, which a properties file does \
             not allow after a value; write `true` and put the comment on a line of its own",
    ),
    (
        "storePathRootDir=/data/store // big disk",
        "1: storePathRootDir: `/data/store // big disk` carries a comment, which a properties \
             file does not allow after a value; write `/data/store` and put the comment on a line \
             of its own",
    ),
    ("listenPort=abc", "1: listenPort: `abc` is not a whole number from 3 to 65534"),
    ("listenPort=0", "1: listenPort: `0` is not a whole number from 3 to 65534"),
    ("listenPort=", "1: listenPort: has no value; expected a whole number from 3 to 65534"),
    ("autoCreateTopicEnable=yes", "1: autoCreateTopicEnable: `yes` is not `true` or `false`"),
    (
        "sendMessageThreadPoolNums=many",
        "1: sendMessageThreadPoolNums: `many` is not a whole number",
    ),
    (
        "brokerRole=async_master",
        "1: brokerRole: `async_master` is not one of ASYNC_MASTER, SYNC_MASTER, SLAVE; did \
             you mean ASYNC_MASTER?",
    ),
    ("deleteWhen=25", "1: deleteWhen: `25` is not hours of the day such as `04` or `04;16`"),
    ("brokerName=a\nbrokerName=b", "2: brokerName: is set on line 1 already; keep one of the two"),
    (
        "mapedFileSizeCommitLog=1073741824\nmappedFileSizeCommitLog=67108864",
        "2: mappedFileSizeCommitLog: is another spelling of mapedFileSizeCommitLog, set on \
             line 1; keep one",
    ),
    (
        "storePathRootDir=${user.home}/store",
        "1: storePathRootDir: `${user.home}/store`: variables are not expanded in this file; \
             write the whole path",
    ),
    (
        "storePathRootDir=~/store",
        "1: storePathRootDir: `~/store`: `~` is not expanded in this file; write the whole path",
    ),
    ("brokerName=a b", "1: brokerName: ` ` in `a b`: a name has letters, digits and `-_%|.` only"),
    (
        "brokerIP1=10.0.0.1:10911",
        "1: brokerIP1: `10.0.0.1:10911` has a port: write the host only, `10.0.0.1`",
    ),
    ("namesrvAddr=a:9876;b", "1: namesrvAddr: `b` has no port: write `host:port`"),
    ("namesrvAddr=a:9876;b:98765", "1: namesrvAddr: `98765` in `b:98765` is not a port (1–65535)"),
    (
        "brokerId=1",
        "1: brokerId: contradicts brokerRole=ASYNC_MASTER: a master has brokerId=0 (Java \
             would start a second master of the same name, without replication)",
    ),
    (
        "haListenPort=10909",
        "1: haListenPort: port 10909 for peers is the VIP port of listenPort=10911 too; \
             choose another",
    ),
    (
        "dLegerPeers=n0-a:1;n1-b:1\ndLegerSelfId=n0",
        "1: dLegerPeers: is set without enableDLegerCommitLog=true: this broker would run \
             alone, unreplicated; set it, or remove the dLeger keys",
    ),
    (
        "aclEnable=true",
        "1: aclEnable: `true` cannot be had: access control is not served yet: everybody \
             would have access; set it to false",
    ),
    (
        "heartbeatIntervalMs=200",
        "1: heartbeatIntervalMs: must be at most a third of electionTimeoutMs=300: one lost \
             heartbeat is no reason for an election",
    ),
    (
        "mappedFileSizeCommitLog=67108865",
        "1: mappedFileSizeCommitLog: 67108865 is not a multiple of 4096; 67108864 is",
    ),
    (
        "mappedFileSizeCommitLog=1048576",
        "1: mappedFileSizeCommitLog: 1048576 bytes is too small for messages of \
             maxMessageSize=4194304: an entry does not straddle segments; at least 8519680 bytes",
    ),
    (
        "diskMaxUsedSpaceRatio=88\ndiskSpaceCleanForciblyRatio=80",
        "2: diskSpaceCleanForciblyRatio: is below diskMaxUsedSpaceRatio=88 (line 1)",
    ),
    (
        "storePathRootDir=/d\nstorePathCommitLog=/d",
        "2: storePathCommitLog: is storePathRootDir itself: the log needs a folder of its own",
    ),
    ("=1", "1: there is no key before the separator"),
    (
        "logLevel=loud=loud",
        "1: logLevel: `loud=loud` is not a level or a filter such as `info,rmq::raft=debug`: \
             error parsing level filter: expected one of \"off\", \"error\", \"warn\", \"info\", \
             \"debug\", \"trace\", or a number 0-5",
    ),
];

#[test]
fn every_mistake_is_named_with_its_line_and_the_way_out() {
    for (text, want) in MISTAKES {
        assert_eq!(refusal(text), format!("broker.conf:{want}"), "{text}");
    }
}

#[test]
fn mistakes_of_a_group_are_named() {
    let without = |key: &str| {
        let lines = GROUP.lines().filter(|line| !line.starts_with(key));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    let with = |line: &str| format!("{GROUP}{line}\n");
    let rows = [
        (
            without("dLegerPeers"),
            ": dLegerPeers: is needed with enableDLegerCommitLog=true: all members, as \
             `n0-host:port;n1-host:port`",
        ),
        (
            without("dLegerSelfId"),
            ": dLegerSelfId: is needed with enableDLegerCommitLog=true: which of dLegerPeers \
             this broker is",
        ),
        (
            without("dLegerGroup"),
            ": dLegerGroup: is needed with enableDLegerCommitLog=true: the group's name, equal \
             on all members",
        ),
        (
            GROUP.replace("SelfId=n0", "SelfId=n3"),
            ":4: dLegerSelfId: n3 is not among the members n0, n1, n2 of dLegerPeers",
        ),
        (
            with("preferredLeaderId=n3"),
            ":5: preferredLeaderId: n3 is not among the members n0, n1, n2 of dLegerPeers",
        ),
        (
            with("brokerName=other"),
            ":2: dLegerGroup: differs from brokerName=other (line 5): the members of a group \
             share one name, which is both",
        ),
        (
            with("brokerRole=SLAVE"),
            ":5: brokerRole: contradicts enableDLegerCommitLog=true: members elect who leads; \
             remove it",
        ),
        (
            with("listenPort=40911"),
            ":3: dLegerPeers: port 40911 for peers is listenPort=40911 (line 5) too; choose another",
        ),
        (
            with("storePathCommitLog=/a\nstorePathDLedgerCommitLog=/b"),
            ":6: storePathDLedgerCommitLog: there is one log, and storePathCommitLog=/a (line 5) \
             puts it elsewhere; keep one of the two",
        ),
    ];
    for (text, want) in rows {
        let refused = refusal(&text);
        let first = refused.lines().next().unwrap();
        assert_eq!(first, format!("broker.conf{want}"), "{text}");
    }
}

#[test]
fn mistakes_in_a_list_of_members_are_named() {
    let rows = [
        (
            "n0-a:40911;n0-b:40911",
            ":3: dLegerPeers: `n0-b:40911`: member `n0` is listed twice; expected \
             `n0-host:port;n1-host:port`",
        ),
        (
            "n0-a:40911;n1-a:40911",
            ":3: dLegerPeers: `n1-a:40911`: member `n0` has the address a:40911 already; expected \
             `n0-host:port;n1-host:port`",
        ),
        (
            "10.0.0.1:40911",
            ":3: dLegerPeers: `10.0.0.1:40911` has no member name: write `name-host:port`, for \
             example `n0-10.0.0.1:40911`; expected `n0-host:port;n1-host:port`",
        ),
        (
            "n0-a",
            ":3: dLegerPeers: member `n0`: `a` has no port: write `host:port`; expected \
             `n0-host:port;n1-host:port`",
        ),
    ];
    for (list, want) in rows {
        let refused = refusal(&GROUP.replace("n0-a:40911;n1-b:40911;n2-c:40911", list));
        let first = refused.lines().next().unwrap();
        assert_eq!(first, format!("broker.conf{want}"), "{list}");
    }
}

#[test]
fn peers_may_have_dashes_dns_names_and_ipv6_addresses() {
    let rows = [
        (
            "n0-rmq-broker-0.rmq-headless.prod.svc:40911",
            "rmq-broker-0.rmq-headless.prod.svc",
            40911,
        ),
        ("n0-[fd00::1]:40911", "fd00::1", 40911),
        (" n0-10.0.0.1:1 ; ", "10.0.0.1", 1),
    ];
    for (text, host, port) in rows {
        let peers: Peers = text.parse().unwrap();
        let address = peers.get("n0").unwrap();
        assert_eq!((address.host.as_str(), address.port), (host, port), "{text}");
        assert_eq!(peers.to_string().parse::<Peers>().unwrap(), peers, "{text}");
    }
    for text in [
        "",
        "n0",
        "n0-",
        "n0-:1",
        "n0-a:",
        "n0-a:0",
        "n0-a:+1",
        "n0-fd00::1:40911",
        "n0-[::1]",
        "n0-[::1:1",
        "n0-[x]:1",
        "-a:1",
        "n 0-a:1",
        "n0-a b:1",
        "n0-999.1:1",
        "n0-a:65536",
    ] {
        assert!(text.parse::<Peers>().is_err(), "{text}");
    }
    let shuffled: Peers = "n2-c:1;n0-a:1;n1-b:1".parse().unwrap();
    let names: Vec<_> = shuffled.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["n0", "n1", "n2"], "every member sees the same order");
}

#[test]
fn all_problems_are_reported_at_once_in_the_order_of_lines() {
    let refused = refusal("brokerIp1=a\n=x\nlistenPort=x\ndeleteWhen=99\nbrokerId=1");
    let lines: Vec<_> = refused.lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(lines, (1..=5).map(|line| format!("broker.conf:{line}")).collect::<Vec<_>>());
}

#[test]
fn an_empty_value_is_none_where_there_is_no_default() {
    let config = broker("haListenPort=\nbrokerName=\nnamesrvAddr=\n").unwrap().config;
    assert_eq!(config.peers.to_string(), "n0-127.0.0.1:10912");
    assert_eq!(config.group, "worker1");
}

#[test]
fn blanks_after_values_do_not_matter() {
    let config = broker("fileReservedTime = 168 \nautoCreateTopicEnable=FALSE\t\n").unwrap().config;
    assert_eq!(config.policy.retention.reserved.as_secs(), 168 * 3600);
    assert!(!config.policy.auto_create_topic);
}

#[test]
fn warn_ignores_what_java_ignores_and_nothing_else() {
    let lenient = "configStrict=warn\nbrokerIp1=a\nfileReservedTime=x\nbrokerName=a\nbrokerName=b";
    let loaded = broker(lenient).unwrap();
    assert_eq!(loaded.warnings.len(), 3, "{:?}", loaded.warnings);
    assert!(loaded.warnings[0].ends_with("did you mean brokerIP1?; ignored"));
    assert_eq!(loaded.config.group, "b", "the last one wins");
    assert_eq!(loaded.config.policy.retention.reserved.as_secs(), 72 * 3600);
    assert!(loaded.config.settings.to_properties().contains("\nbrokerIp1=a\n"));
    assert!(broker("configStrict=warn\nbrokerId=1").is_err(), "a contradiction stays one");
}

#[test]
fn settings_without_effect_in_a_group_are_named() {
    let group = format!("{GROUP}brokerRole=ASYNC_MASTER\nbrokerId=0\nnamesrvAddr=ns:9876");
    let notices = broker(&group).unwrap().notices;
    assert_eq!(notices.len(), 2);
    assert!(notices[0].starts_with("brokerRole=ASYNC_MASTER (line 5) has no effect with"));
    let two = GROUP.replace(";n2-c:40911", "");
    let notices = broker(&two).unwrap().notices;
    assert_eq!(notices[0], "2 members tolerate the loss of 0, as 1 would: use an odd number");
    assert!(notices[1].starts_with("there is no name server (-n, namesrvAddr, NAMESRV_ADDR)"));
}

#[test]
fn a_machine_without_home_or_name_must_be_told() {
    let bare = Inputs { home: None, host_name: String::new(), ..inputs() };
    let refused = load::broker(None, &bare).unwrap_err().to_string();
    assert_eq!(
        refused,
        "configuration: storePathRootDir: is not set, and the environment has no HOME to put the \
         store under\n\
         configuration: brokerName: is not set, and the host name cannot be used: has no value; \
         expected a name"
    );
    let text = "storePathRootDir=/d\nbrokerName=a".to_owned();
    let file = FileText { name: "f".into(), text };
    assert!(load::broker(Some(&file), &bare).is_ok());
    assert!(load::namesrv(None, &bare).is_err());
    assert!(namesrv("kvConfigPath=/d/kv.json").is_ok());
}

#[test]
fn secrets_are_never_shown() {
    let secret = "innerClientAuthenticationCredentials=hunter2";
    let config = broker(secret).unwrap().config;
    assert!(!config.settings.to_properties().contains("hunter2"));
    assert!(!crate::config::cli::listing(&config.settings, true).contains("hunter2"));
    assert!(!refusal(&format!("{secret} listenPort=1")).contains("hunter2"));
}

proptest::proptest! {
    #[test]
    fn any_file_is_loaded_or_refused(lines in proptest::collection::vec(
        ("(listenPort|brokerId|dLegerPeers|dLegerSelfId|enableDLegerCommitLog|deleteWhen|\
           haListenPort|storePathRootDir|mappedFileSizeCommitLog|maxMessageSize|logLevel|x)",
         "(true|n0-a:1;n1-b:2|n0|[0-9]{1,20}|-1|[ -~]{0,12})"), 0..8)
    ) {
        let text: String = lines.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
        if let Ok(loaded) = broker(&text) {
            assert!(loaded.config.peers.get(&loaded.config.member).is_some());
        }
    }
}
