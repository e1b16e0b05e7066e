//! One message, a line per property of it, and what consumer groups have done with it.

use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::track::{self, Track};
use crate::{
    admin::{
        commands::{Session, message::shown::Shown},
        error::Error,
        java_text,
        output::{Format, Told},
    },
    protocol::message::properties::names as property,
};

/// What a page shows besides what all show.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Extras {
    /// It begins with the offset message id.
    pub(super) offset_id: bool,
    /// The body as text.
    pub(super) body_text: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    message: Shown,
    tracks: Vec<Track>,
}

/// Shows a message. Its body is written to a file, unless it is part of the JSON.
pub(super) async fn show(
    session: &mut Session<'_>,
    message: Shown,
    extras: Extras,
) -> Result<(), Error> {
    let tracks = track::tracks(&session.admin, &message).await;
    let tracks = tracks.unwrap_or_else(|error| {
        session.out.remark(&error);
        Vec::new()
    });
    let mut text = String::new();
    if session.out.format() == Format::Text {
        let file = keep_body(&std::env::temp_dir(), &message).map_err(|cause| {
            Error::Unable(format!("cannot write the message's body to a file: {cause}"))
        })?;
        text = lines(&message, extras, &file, session);
        if tracks.is_empty() {
            text += "\n\nWARN: No Consumer\n";
        } else {
            text += "\n\n";
            tracks.iter().for_each(|track| text += &format!("{track}\n"));
        }
    }
    session.out.show(&Told::new(text, Page { message, tracks }))
}

fn lines(message: &Shown, extras: Extras, file: &Path, session: &Session<'_>) -> String {
    let property = |name: &str| message.properties.get(name).map_or("null", String::as_str);
    let time = |ms| java_text::time_with_ms(ms, &session.zone);
    let rows = [
        ("Topic:", message.topic.clone()),
        ("Tags:", format!("[{}]", property(property::TAGS))),
        ("Keys:", format!("[{}]", property(property::KEYS))),
        ("Queue ID:", message.queue_id.to_string()),
        ("Queue Offset:", message.queue_offset.to_string()),
        ("CommitLog Offset:", message.commit_log_offset.to_string()),
        ("Reconsume Times:", message.reconsume_times.to_string()),
        ("Born Timestamp:", time(message.born_timestamp)),
        ("Store Timestamp:", time(message.store_timestamp)),
        ("Born Host:", message.born_host.clone()),
        ("Store Host:", message.store_host.clone()),
        ("System Flag:", message.sys_flag.to_string()),
        ("Properties:", java_text::map(&message.properties)),
        ("Message Body Path:", file.display().to_string()),
    ];
    let first = extras.offset_id.then(|| ("OffsetID:", message.offset_msg_id.clone()));
    let body = || String::from_utf8_lossy(&message.body).into_owned();
    let last = extras.body_text.then(|| ("Message Body:", body()));
    let mut text = String::new();
    for (name, value) in first.into_iter().chain(rows).chain(last) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<20} {value}");
    }
    text
}

/// Writes the body where mqadmin writes it. Ids are hexadecimal digits; what else a broker may
/// send as an id does not become a path.
fn keep_body(temporary: &Path, message: &Shown) -> io::Result<PathBuf> {
    let dir = temporary.join("rocketmq").join("msgbodys");
    fs::create_dir_all(&dir)?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let name: String = message.msg_id.chars().filter(|c| is_plain(*c)).take(128).collect();
    let file = dir.join(if name.is_empty() { message.offset_msg_id.clone() } else { name });
    // Whatever is there, a link for instance, is not followed but replaced.
    match fs::remove_file(&file) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
        _ => {}
    }
    let mut out = fs::File::create_new(&file)?;
    io::Write::write_all(&mut out, &message.body)?;
    Ok(file)
}
