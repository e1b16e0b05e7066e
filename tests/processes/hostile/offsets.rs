//! Attack 13: a group's offsets, pushed where nothing is.

use super::*;

impl Target {
    async fn committed(&self, group: &str) -> Option<i64> {
        let fields = [
            ("consumerGroup", group),
            ("topic", "T"),
            ("queueId", "0"),
            ("setZeroIfNotFound", "false"),
        ];
        let answer = self.request(RequestCode::QUERY_CONSUMER_OFFSET, &fields).await;
        (answer.code == 0).then(|| OffsetAnswer::parse(&answer).unwrap().offset)
    }

    async fn commit(&self, group: &str, queue_id: i32, offset: i64) -> i32 {
        let (queue_id, offset) = (queue_id.to_string(), offset.to_string());
        let fields = [
            ("consumerGroup", group),
            ("topic", "T"),
            ("queueId", &queue_id),
            ("commitOffset", &offset),
        ];
        self.request(RequestCode::UPDATE_CONSUMER_OFFSET, &fields).await.code
    }

    async fn commit_with_a_pull(&self, offset: i64) -> i32 {
        let mut request = pull("T");
        request.ext.push("commitOffset", offset.to_string());
        request.ext.push("sysFlag", "5");
        self.ask(request).await.code
    }

    async fn reset(&self, group: &str, queue_id: i32, offset: i64) -> i32 {
        let (queue_id, offset) = (queue_id.to_string(), offset.to_string());
        let fields = [
            ("topic", "T"),
            ("group", group),
            ("queueId", &queue_id),
            ("offset", &offset),
            ("timestamp", "-1"),
            ("isForce", "true"),
        ];
        self.request(RequestCode::INVOKE_BROKER_TO_RESET_OFFSET, &fields).await.code
    }

    async fn clone_to(&self, group: &str) -> i32 {
        let fields =
            [("srcGroup", "g"), ("destGroup", group), ("topic", "T"), ("offline", "false")];
        self.request(RequestCode::CLONE_GROUP_OFFSET, &fields).await.code
    }
}

#[tokio::test]
async fn attack_13_no_request_puts_an_offset_where_no_message_can_be() {
    let broker = Target::broker();
    for _ in 0..5 {
        broker.caller.first_send(broker.port, "T").await;
    }
    assert_eq!(broker.ask(pull("T")).await.code, 0, "makes the group");
    assert_eq!(broker.commit("g", 0, 3).await, 0);
    for offset in [-1, i64::MIN, 6, 1 << 40, i64::MAX] {
        assert_eq!(broker.commit("g", 0, offset).await, 29, "{offset}");
        broker.commit_with_a_pull(offset).await;
        broker.reset("g", 0, offset).await;
        let now = broker.committed("g").await.unwrap();
        assert!((0..=5).contains(&now), "{offset}: {now}");
        broker.ask(pull("T")).await; // is told of a reset, if there was one
        broker.commit("g", 0, 3).await;
    }
    for queue_id in [-1, 1, i32::MAX] {
        assert_eq!(broker.commit("g", queue_id, 1).await, 29, "{queue_id}");
    }
    assert_eq!(broker.commit("nobody", 0, 1).await, 26);
    assert_ne!(broker.reset("nobody", 0, 1).await, 0);
    for group in ["../x", "", "a b", &"n".repeat(300)] {
        assert_eq!(broker.clone_to(group).await, 29, "{group}");
        assert_eq!(broker.committed(group).await, None, "{group}");
    }
    assert_eq!(broker.clone_to("h").await, 0);
    assert_eq!(broker.committed("h").await, broker.committed("g").await);
    broker.end();
}

#[tokio::test]
async fn attack_13_whatever_is_asked_offsets_stay_within_their_queue() {
    let broker = Target::broker();
    broker.caller.first_send(broker.port, "T").await;
    assert_eq!(broker.ask(pull("T")).await.code, 0, "makes the group");
    let (mut rng, mut end) = (fastrand::Rng::with_seed(13), 1);
    for _ in 0..300 {
        let offset = match rng.u8(..5) {
            0 => rng.i64(..),
            1 => end + rng.i64(-2..3),
            _ => rng.i64(0..=end),
        };
        match rng.u8(..5) {
            0 => {
                broker.caller.first_send(broker.port, "T").await;
                end += 1;
            }
            1 => drop(broker.commit_with_a_pull(offset).await),
            2 => drop(broker.reset("g", rng.i32(-1..2), offset).await),
            3 => drop(broker.clone_to("h").await),
            _ => drop(broker.commit(if rng.bool() { "g" } else { "h" }, 0, offset).await),
        }
        for group in ["g", "h"] {
            let now = broker.committed(group).await.unwrap_or(0);
            assert!((0..=end).contains(&now), "{now} of {end} after {offset}");
        }
    }
    broker.end();
}
