//! Fuzz target: configuration files, and changes over the network.

use super::{
    load, properties,
    settings::{FileText, Inputs},
    update::UpdateError,
};

/// A file is loaded or refused with its lines; what is loaded can be written and loaded again. A
/// change is taken whole or not at all, and never reaches a path.
pub(crate) fn configuration(bytes: &[u8]) {
    let text = properties::decode(bytes);
    let inputs =
        Inputs { host_name: "host".into(), home: Some("/home/rmq".into()), ..Inputs::default() };
    let file = FileText { name: "f".into(), text: text.clone() };
    match load::broker(Some(&file), &inputs) {
        Err(errors) => assert!(!errors.to_string().is_empty()),
        Ok(loaded) => {
            let written = loaded.config.settings.to_properties();
            let (pairs, malformed) = properties::parse(&written);
            assert!(malformed.is_empty() && pairs.len() == written.lines().count(), "{written}");
        }
    }
    drop(load::namesrv(Some(&file), &inputs));

    let Ok(before) = load::broker(None, &inputs) else { return };
    let before = before.config;
    match before.updated(&text) {
        Ok(update) => {
            assert!(
                update.changed.keys().all(|key| !key.contains("Path") && !key.contains("Home"))
            );
            let kept = update.changed.iter().map(|(key, value)| (key.as_str(), value.as_str()));
            let again = before.with_kept(kept).settings.to_properties();
            assert_eq!(
                again,
                update.config.settings.to_properties(),
                "what is kept is what was set"
            );
        }
        Err(UpdateError::Unreadable | UpdateError::BlackListed { .. }) => {}
        Err(UpdateError::Refused(errors)) => assert!(!errors.to_string().is_empty()),
    }
}
