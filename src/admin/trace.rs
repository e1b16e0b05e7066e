//! The trace of a message that was sent, as Java's clients write it to the trace topic.

/// Between the fields of a trace.
const FIELD_END: char = '\u{1}';
/// Behind each trace.
const TRACE_END: char = '\u{2}';

/// What is told about a message that was sent.
pub(super) struct Sent<'a> {
    pub(super) group: &'a str,
    pub(super) topic: &'a str,
    pub(super) msg_id: &'a str,
    pub(super) tags: &'a str,
    pub(super) keys: &'a str,
    pub(super) store_host: &'a str,
    pub(super) body_bytes: usize,
    pub(super) cost_ms: i64,
    pub(super) at_ms: i64,
    pub(super) offset_msg_id: &'a str,
    pub(super) region: &'a str,
}

impl Sent<'_> {
    /// The body of the trace message: fields in the order in which readers count them.
    pub(super) fn text(&self) -> String {
        const ORDINARY_MESSAGE: &str = "0";
        let (at, bytes) = (self.at_ms.to_string(), self.body_bytes.to_string());
        let cost = self.cost_ms.to_string();
        let fields = [
            "Pub",
            &at,
            self.region,
            self.group,
            self.topic,
            self.msg_id,
            self.tags,
            self.keys,
            self.store_host,
            &bytes,
            &cost,
            ORDINARY_MESSAGE,
            self.offset_msg_id,
            "true",
        ];
        let mut text = fields.join(&FIELD_END.to_string());
        text.push(TRACE_END);
        text
    }

    /// Keys under which the trace is found.
    pub(super) fn index_keys(&self) -> String {
        format!("{} {}", self.msg_id, self.keys).trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_has_the_fields_that_java_reads() {
        let sent = Sent {
            group: "P",
            topic: "T",
            msg_id: "FD00",
            tags: "TagA",
            keys: "k1",
            store_host: "127.0.0.1:1",
            body_bytes: 5,
            cost_ms: 3,
            at_ms: 1_795_264_402_246,
            offset_msg_id: "7F00",
            region: "DefaultRegion",
        };
        let want = "Pub\u{1}1795264402246\u{1}DefaultRegion\u{1}P\u{1}T\u{1}FD00\u{1}TagA\u{1}k1\
                    \u{1}127.0.0.1:1\u{1}5\u{1}3\u{1}0\u{1}7F00\u{1}true\u{2}";
        assert_eq!(sent.text(), want);
        assert_eq!(sent.index_keys(), "FD00 k1");
        assert_eq!(Sent { keys: "", ..sent }.index_keys(), "FD00");
    }
}
