//! `/metrics` and `/healthz`: path → answer. Pure; whoever has the socket serves it.

use crate::telemetry::metrics::Samples;

/// What can be asked about a running server.
pub trait Observed: Send + Sync {
    /// Puts the present numbers into `samples`.
    fn sample(&self, samples: &mut Samples);
    /// Whether it can do its work.
    fn health(&self) -> Health;
}

/// Whether a server can do its work, with a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It serves: "leads RaftNode00 in term 3".
    Serves(String),
    /// It does not: "waits for n1 and n2".
    Waits(String),
}

/// An HTTP answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Value of the `Content-Type` header.
    pub content_type: &'static str,
    /// The body.
    pub body: String,
}

const TEXT: &str = "text/plain; charset=utf-8";

/// The answer to `GET path`. A query (`?…`) is ignored.
pub fn respond(path: &str, observed: &dyn Observed) -> Answer {
    match path.split('?').next().unwrap_or_default() {
        "/metrics" => {
            let mut samples = Samples::default();
            observed.sample(&mut samples);
            let content_type = "text/plain; version=0.0.4; charset=utf-8";
            Answer { status: 200, content_type, body: samples.to_text() }
        }
        "/healthz" => match observed.health() {
            Health::Serves(what) => text(200, &what),
            Health::Waits(why) => text(503, &why),
        },
        _ => text(404, "there is /metrics and /healthz"),
    }
}

fn text(status: u16, line: &str) -> Answer {
    Answer { status, content_type: TEXT, body: format!("{line}\n") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metric;

    struct Member(Health);

    impl Observed for Member {
        fn sample(&self, samples: &mut Samples) {
            samples.put(Metric::RaftTerm, 3_u64);
        }

        fn health(&self) -> Health {
            self.0.clone()
        }
    }

    #[test]
    fn paths_are_answered() {
        let serves = Member(Health::Serves("leads RaftNode00 in term 3".into()));
        let waits = Member(Health::Waits("waits for n1".into()));
        let rows = [
            ("/healthz", &serves, 200, "leads RaftNode00 in term 3\n"),
            ("/healthz?verbose", &serves, 200, "leads RaftNode00 in term 3\n"),
            ("/healthz", &waits, 503, "waits for n1\n"),
            ("/", &serves, 404, "there is /metrics and /healthz\n"),
            ("/metricsx", &serves, 404, "there is /metrics and /healthz\n"),
        ];
        for (path, member, status, body) in rows {
            let answer = respond(path, member);
            assert_eq!((answer.status, answer.body.as_str()), (status, body), "{path}");
        }
        let metrics = respond("/metrics", &serves);
        assert_eq!(metrics.status, 200);
        assert!(metrics.body.ends_with("\nrmq_raft_term 3\n"), "{}", metrics.body);
    }
}
