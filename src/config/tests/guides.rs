//! The files of the five guides, as published and mended.

use std::{net::SocketAddr, path::Path, time::Duration};

use super::{broker, inputs, namesrv, refusal};
use crate::config::{
    load,
    settings::{Inputs, Source},
};

macro_rules! guide {
    ($name:literal) => {
        include_str!(concat!("../../../tests/config/", $name))
    };
}

#[test]
fn guide_1_loads_as_a_replicated_group() {
    let rows = [
        (guide!("guide1/broker-n0.conf"), "n0", 30911, "node00"),
        (guide!("guide1/broker-n1.conf"), "n1", 30921, "node01"),
        (guide!("guide1/broker-n2-as-published.conf"), "n2", 30921, "node01"),
    ];
    for (text, member, port, folder) in rows {
        let loaded = broker(text).unwrap();
        let config = loaded.config;
        assert_eq!(config.cluster, "RaftCluster");
        assert_eq!((config.group.as_str(), config.member.as_str()), ("RaftNode00", member));
        assert_eq!(config.listen, SocketAddr::from(([0, 0, 0, 0], port)));
        assert_eq!(config.store.root, Path::new("/tmp/rmqstore").join(folder));
        assert_eq!(config.store.commit_log, config.store.root.join("commitlog"));
        assert!(config.store.synced, "a group's default");
        assert_eq!(config.peers.len(), 3);
        assert_eq!(config.peers.get("n1").unwrap().to_string(), "192.168.56.202:40912");
        assert_eq!(config.name_servers[0].to_string(), "192.168.56.200:9876");
        let ignored = "no effect here, see -p for the reasons: sendMessageThreadPoolNums";
        assert_eq!((loaded.notices, loaded.warnings), (vec![ignored.to_owned()], vec![]));
    }
}

#[test]
fn guide_1_member_lists_that_differ_load_and_are_for_the_peers_to_refuse() {
    let published = broker(guide!("guide1/broker-n0-as-published.conf")).unwrap().config;
    let others = broker(guide!("guide1/broker-n1.conf")).unwrap().config;
    assert_ne!(published.peers, others.peers);
}

#[test]
fn guide_1_lost_line_break_is_found() {
    assert_eq!(
        refusal(guide!("guide1/broker-n1-as-published.conf")),
        "broker.conf:8: dLegerGroup: `RaftNode00dLegerPeers=n0-192.168.56.201:40911;\
         n1-192.168.56.202:40912;n2-192.168.56.203:40913` contains `dLegerPeers=`: a line break \
         is missing before dLegerPeers\n\
         broker.conf: dLegerPeers: is needed with enableDLegerCommitLog=true: all members, as \
         `n0-host:port;n1-host:port`"
    );
}

#[test]
fn guide_0_comment_after_a_value_is_found() {
    let error = namesrv(guide!("guide0/namesrv-as-published.properties")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "broker.conf:1: listenPort: `9896# 端口，默认 9876` carries a comment, which a properties \
         file does not allow after a value; write `9896` and put the comment on a line of its own"
    );
    let mended = namesrv(guide!("guide0/namesrv.properties")).unwrap().config;
    assert_eq!(mended.listen, SocketAddr::from(([0, 0, 0, 0], 9896)));
    assert_eq!(mended.kv_config, Path::new("/home/rmq/namesrv/kvConfig.json"));
}

#[test]
fn guide_0_master_is_a_group_of_one() {
    let loaded = broker(guide!("guide0/broker-a.properties")).unwrap();
    let config = loaded.config;
    assert_eq!((config.group.as_str(), config.member.as_str()), ("broker-a", "n0"));
    assert_eq!(config.peers.to_string(), "n0-127.0.0.1:10912");
    assert_eq!(config.name_servers.len(), 3);
    assert!(!config.store.synced, "ASYNC_FLUSH is written in the file");
    assert_eq!(config.policy.retention.reserved, Duration::from_secs(120 * 3600));
    assert_eq!(
        loaded.notices,
        ["no effect here, see -p for the reasons: abortFile, storeCheckpoint, \
          storePathConsumeQueue, storePathIndex"]
    );
}

#[test]
fn slaves_are_refused_until_there_are_roles() {
    for (text, line) in [
        (guide!("guide0/broker-b-s.properties"), 18),
        (guide!("guide3/broker-slave.properties"), 6),
    ] {
        assert_eq!(
            refusal(text),
            format!(
                "broker.conf:{line}: brokerRole: SLAVE needs the master and slave roles, which \
                 come later; a replicated group has equal members: enableDLegerCommitLog=true, \
                 dLegerGroup, dLegerPeers, dLegerSelfId (conf/dledger); a broker on its own is \
                 ASYNC_MASTER with brokerId=0"
            )
        );
    }
    let synchronous = guide!("guide3/broker.properties").replace("ASYNC_MASTER", "SYNC_MASTER");
    assert!(refusal(&synchronous).contains("SYNC_MASTER needs the master and slave roles"));
}

#[test]
fn guide_2_needs_no_file() {
    let inputs = Inputs { name_servers_flag: Some("localhost:9876".into()), ..inputs() };
    let loaded = load::broker(None, &inputs).unwrap();
    let config = loaded.config;
    assert_eq!(config.cluster, "DefaultCluster");
    assert_eq!(config.group, "worker1", "the host name");
    assert_eq!(config.listen.port(), 10911);
    assert_eq!(config.vip_listen.port(), 10909);
    assert_eq!(config.store.root, Path::new("/home/rmq/store"));
    assert_eq!(config.name_servers[0].to_string(), "localhost:9876");
    assert_eq!(config.peers.len(), 1);
    assert_eq!((loaded.notices, loaded.warnings), (vec![], vec![]));
}

#[test]
fn guide_3_master_loads() {
    let config = broker(guide!("guide3/broker.properties")).unwrap().config;
    assert_eq!(config.policy.retention.reserved, Duration::from_secs(48 * 3600));
    assert_eq!(config.policy.retention.delete_hours, [4]);
    assert_eq!(config.name_servers, []);
}

#[test]
fn guide_4_variable_in_a_path_is_found() {
    assert_eq!(
        refusal(guide!("guide4/broker-a-as-published.properties")),
        "broker.conf:10: storePathRootDir: `$ROCKETMQ_HOME/srote/a`: variables are not expanded \
         in this file; write the whole path"
    );
    let mended = broker(guide!("guide4/broker-a.properties")).unwrap().config;
    assert_eq!(mended.store.commit_log, Path::new("/opt/rocketmq/srote/a/commitlog"));
}

#[test]
fn guide_4_second_master_of_the_same_name_is_found() {
    assert_eq!(
        refusal(guide!("guide4/broker-a-s-as-published.properties")),
        "broker.conf:3: brokerId: contradicts brokerRole=ASYNC_MASTER (line 6): a master has \
         brokerId=0 (Java would start a second master of the same name, without replication)"
    );
}

#[test]
fn guide_4_annotated_file_loads_with_its_historic_spellings() {
    for text in
        [guide!("guide4/annotated.properties"), guide!("guide4/annotated-all-on.properties")]
    {
        let loaded = broker(text).unwrap();
        let config = loaded.config;
        assert_eq!(config.store.segment_bytes, 1 << 30);
        assert_eq!(config.policy.message_bytes_max, 65536);
        assert_eq!(config.policy.default_topic_queues, 4);
        let retention = &config.policy.retention;
        let percents =
            (retention.disk_percent_max, retention.disk_percent_force, retention.disk_percent_full);
        assert_eq!(percents, (88, 88, 90), "a default gives way to what was written");
        let renamed = &loaded.notices[0];
        assert!(renamed.contains("mapedFileSizeCommitLog (line 17) is mappedFile"), "{renamed}");
        assert!(loaded.notices[1].starts_with("no effect here"), "{:?}", loaded.notices);
    }
}

#[test]
fn the_shipped_group_loads() {
    for (number, text) in [
        include_str!("../../../conf/dledger/broker-n0.conf"),
        include_str!("../../../conf/dledger/broker-n1.conf"),
        include_str!("../../../conf/dledger/broker-n2.conf"),
    ]
    .into_iter()
    .enumerate()
    {
        let config = broker(text).unwrap().config;
        assert_eq!(config.member, format!("n{number}"));
        assert_eq!(usize::from(config.listen.port()), 30911 + 10 * number);
        let own = config.peers.get(&config.member).unwrap();
        assert_eq!(usize::from(own.port), 40911 + number);
        assert!(config.store.root.ends_with(format!("node0{number}")));
    }
    let config = namesrv(include_str!("../../../conf/dledger/namesrv.conf")).unwrap().config;
    assert_eq!(config.listen.port(), 9876);
}

#[test]
fn name_servers_come_from_the_flag_then_the_file_then_the_environment() {
    let with = |flag: Option<&str>, text: &str, variable: Option<&str>| {
        let inputs = Inputs {
            name_servers_flag: flag.map(str::to_owned),
            name_servers_variable: variable.map(str::to_owned),
            ..inputs()
        };
        let config = load::broker(Some(&super::file(text)), &inputs).unwrap().config;
        let source = config.settings.get("namesrvAddr").source.to_string();
        (config.name_servers.first().map(ToString::to_string), source)
    };
    let written = "namesrvAddr=file:1";
    let rows = [
        (Some("flag:1"), written, Some("env:1"), Some("flag:1"), "command line"),
        (None, written, Some("env:1"), Some("file:1"), "broker.conf:1"),
        (None, "", Some("env:1"), Some("env:1"), "environment"),
        (None, "", Some(" "), None, "default"),
        (None, "namesrvAddr=", None, None, "broker.conf:1"),
    ];
    for (flag, text, variable, want, source) in rows {
        let want = (want.map(str::to_owned), source.to_owned());
        assert_eq!(with(flag, text, variable), want);
    }
    let inputs = Inputs { name_servers_flag: Some("localhost".into()), ..inputs() };
    assert_eq!(
        load::broker(None, &inputs).unwrap_err().to_string(),
        "command line: -n: `localhost` has no port: write `host:port`"
    );
    assert_eq!(Source::Default.to_string(), "default");
}
