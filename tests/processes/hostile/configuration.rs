//! Attacks 1 and 2: settings changed over the network.

use super::*;

const UPDATE_CONTROLLER_CONFIG: RequestCode = RequestCode(1009);

/// What the published attacks send (CVE-2023-33246: a broker made a shell command of two settings;
/// CVE-2023-37582: a name server wrote the request to a path that the request sets), and their
/// kin: every setting that is or was a path.
fn payloads(marker: &Path) -> Vec<String> {
    let marker = marker.display();
    vec![
        format!("filterServerNums=1\nrocketmqHome=-c $@|sh . echo touch {marker};\n"),
        format!("rocketmqHome=$(touch {marker})\nfilterServerNums=1\nnamesrvAddr=a:1\n"),
        format!("configStorePath={marker}\nproductEnvName=test/path\\ntest\\ntest\n"),
        format!("configStorePathName=configStorePath\nconfigStorePath={marker}\n"),
        format!("kvConfigPath={marker}\nproductEnvName=* * * * * root touch {marker}\n"),
        format!("brokerConfigPath={marker}\nautoCreateTopicEnable=true\n"),
        format!("configBlackList=\nconfigStorePath={marker}\n"),
        format!("storePathRootDir={marker}\n"),
        format!("storePathCommitLog={marker}\n"),
        format!("storePathDLedger={marker}\ncontrollerStorePath={marker}\n"),
        format!("tlsConfigFile={marker}\n"),
    ]
}

#[tokio::test]
async fn attack_1_published_payloads_write_nothing_and_start_nothing() {
    for (target, update) in [
        (Target::broker(), RequestCode::UPDATE_BROKER_CONFIG),
        (Target::name_server(), RequestCode::UPDATE_NAMESRV_CONFIG),
    ] {
        let marker = target.site.path("attacked");
        let files = |target: &Target| -> BTreeSet<_> {
            let all = tree(target.site.dir.path());
            all.into_iter().filter(|path| !path.starts_with(target.site.path("store"))).collect()
        };
        let content = || fs::read(target.site.dir.path().join(conf(&target))).unwrap();
        let (files_before, content_before) = (files(&target), content());
        for payload in payloads(&marker) {
            for code in [update, UPDATE_CONTROLLER_CONFIG] {
                let answer =
                    target.ask(RemotingCommand::request(code).with_body(payload.clone())).await;
                assert_ne!(answer.code, 0, "{payload}: {answer:?}");
                // Paths of configuration itself: what Java answers since it was mended.
                let is_listed = payload.contains("configStorePath=") && code == update;
                let want = ResponseCode::NO_PERMISSION.0;
                assert!(!is_listed || answer.code == want, "{payload}: {answer:?}");
                assert_eq!(target.children(), "", "{payload}");
            }
        }
        assert!(!marker.exists());
        assert_eq!(files(&target), files_before);
        assert_eq!(content(), content_before);
        target.end();
    }
}

fn conf(target: &Target) -> String {
    let names = fs::read_dir(target.site.dir.path()).unwrap();
    let mut names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.find(|name| name.ends_with(".conf")).unwrap()
}

/// No file of the servers' sources starts a process, so no setting can be what it starts.
#[test]
fn attack_1_nothing_can_start_a_process() {
    for path in tree(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            for way in ["process::Command", "libc::", "execve", "posix_spawn", "fork("] {
                let is_known = way == "libc::" && path.ends_with("store/mmap/unreadable.rs");
                assert!(is_known || !text.contains(way), "{way} in {}", path.display());
            }
        }
    }
}

#[tokio::test]
async fn attack_2_values_that_would_spoil_a_file_are_refused_and_nothing_changes() {
    for (target, update, get, key) in [
        (
            Target::broker(),
            RequestCode::UPDATE_BROKER_CONFIG,
            RequestCode::GET_BROKER_CONFIG,
            "autoCreateTopicEnable",
        ),
        (
            Target::name_server(),
            RequestCode::UPDATE_NAMESRV_CONFIG,
            RequestCode::GET_NAMESRV_CONFIG,
            "enableTopicList",
        ),
    ] {
        let settings = async || target.request(get, &[]).await.body;
        let before = settings().await;
        let files = tree(target.site.dir.path());
        let values = [
            "true\\r\\nrocketmqHome=/tmp".to_owned(),
            "true\\u000aconfigStorePath=/tmp".to_owned(),
            "true=false".to_owned(),
            "true\0".to_owned(),
            "true\u{2028}x=y".to_owned(),
            "x".repeat(1 << 20),
            String::new(),
        ];
        for value in values {
            let text = format!("{key}=false\n{key}={value}\n");
            let answer = target.ask(RemotingCommand::request(update).with_body(text)).await;
            let shown: String = value.chars().take(40).collect();
            assert_ne!(answer.code, 0, "{shown}: {answer:?}");
            assert_eq!(settings().await, before, "{shown}");
        }
        let line = format!("{key}=false\nstorePathRootDir=/tmp\n");
        assert_ne!(target.ask(RemotingCommand::request(update).with_body(line)).await.code, 0);
        let bytes = RemotingCommand::request(update).with_body(&[0xff, 0xfe, b'=', b'1'][..]);
        assert_ne!(target.ask(bytes).await.code, 0);
        assert_eq!(settings().await, before, "one bad line refuses all");
        assert_eq!(tree(target.site.dir.path()), files);
        target.end();
    }
}
