//! What is accepted and refused, and how.

mod guides;
mod mistakes;
mod reference;
mod table;
mod updates;

use std::path::PathBuf;

use crate::config::{
    BrokerConfig, ConfigErrors, Loaded, NamesrvConfig, load,
    settings::{FileText, Inputs},
};

fn inputs() -> Inputs {
    Inputs {
        host_name: "worker1".into(),
        home: Some(PathBuf::from("/home/rmq")),
        rocketmq_home: Some(PathBuf::from("/opt/rmq")),
        ..Inputs::default()
    }
}

fn file(text: &str) -> FileText {
    FileText { name: "broker.conf".into(), text: text.to_owned() }
}

fn broker(text: &str) -> Result<Loaded<BrokerConfig>, ConfigErrors> {
    load::broker(Some(&file(text)), &inputs())
}

fn namesrv(text: &str) -> Result<Loaded<NamesrvConfig>, ConfigErrors> {
    load::namesrv(Some(&file(text)), &inputs())
}

/// The lines that a broker with this file prints instead of starting.
fn refusal(text: &str) -> String {
    broker(text).map(|_| ()).unwrap_err().to_string()
}
