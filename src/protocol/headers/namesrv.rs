//! Requests to name servers, except for routes.

use super::{answer_header, request_header};

request_header! {
    /// Set a value.
    PUT_KV_CONFIG PutKvConfig {
        /// Namespace, such as `ORDER_TOPIC_CONFIG`.
        namespace: String = "namespace",
        /// Name.
        key: String = "key",
        /// Value.
        value: String = "value",
    }
}

request_header! {
    /// Ask for a value.
    GET_KV_CONFIG GetKvConfig {
        /// Namespace.
        namespace: String = "namespace",
        /// Name.
        key: String = "key",
    }
}

answer_header! {
    /// The value.
    KvConfig {
        /// The value.
        value: Option<String> = "value",
    }
}

request_header! {
    /// Remove a value.
    DELETE_KV_CONFIG DeleteKvConfig {
        /// Namespace.
        namespace: String = "namespace",
        /// Name.
        key: String = "key",
    }
}

request_header! {
    /// All values of a namespace.
    GET_KVLIST_BY_NAMESPACE GetKvList {
        /// Namespace.
        namespace: String = "namespace",
    }
}

request_header! {
    /// A broker says what it is and has.
    REGISTER_BROKER RegisterBroker {
        /// Broker group.
        broker_name: String = "brokerName",
        /// `ip:port` for clients.
        broker_addr: String = "brokerAddr",
        /// Cluster.
        cluster_name: String = "clusterName",
        /// `ip:port` for replicas.
        ha_server_addr: String = "haServerAddr",
        /// 0 takes writes.
        broker_id: u64 = "brokerId",
        /// Silence after which it counts as gone.
        heartbeat_timeout_millis: Option<i64> = "heartbeatTimeoutMillis",
        /// Whether another member may stand in for a missing id 0; absent for old brokers.
        enable_acting_master: Option<bool> = "enableActingMaster",
        /// Whether the body is deflated.
        compressed: bool = "compressed" or false,
        /// CRC-32 of the body without its highest bit; 0: not checked.
        body_crc32: i32 = "bodyCrc32" or 0,
        /// Availability zone.
        zone_name: Option<String> = "__ZONE_NAME",
    }
}

answer_header! {
    /// Whom a follower replicates from.
    RegisterBrokerAnswer {
        /// `ip:port` for replicas.
        ha_server_addr: Option<String> = "haServerAddr",
        /// `ip:port` for clients.
        master_addr: Option<String> = "masterAddr",
    }
}

request_header! {
    /// A broker leaves.
    UNREGISTER_BROKER UnregisterBroker {
        /// Broker group.
        broker_name: String = "brokerName",
        /// `ip:port` for clients.
        broker_addr: String = "brokerAddr",
        /// Cluster.
        cluster_name: String = "clusterName",
        /// As registered.
        broker_id: u64 = "brokerId",
    }
}

request_header! {
    /// Is this version of the topics known?
    QUERY_DATA_VERSION QueryDataVersion {
        /// Broker group.
        broker_name: String = "brokerName",
        /// `ip:port` for clients.
        broker_addr: String = "brokerAddr",
        /// Cluster.
        cluster_name: String = "clusterName",
        /// As registered.
        broker_id: u64 = "brokerId",
    }
}

answer_header! {
    /// Whether the broker's version differs.
    DataVersionChanged {
        /// Whether it differs.
        changed: bool = "changed",
    }
}

request_header! {
    /// Take the write bit from all topics of a broker group.
    WIPE_WRITE_PERM_OF_BROKER WipeWritePerm {
        /// Broker group.
        broker_name: String = "brokerName",
    }
}

answer_header! {
    /// How many topics were touched.
    WipeWritePermAnswer {
        /// Their number.
        wipe_topic_count: i32 = "wipeTopicCount",
    }
}

request_header! {
    /// Give the write bit to all topics of a broker group.
    ADD_WRITE_PERM_OF_BROKER AddWritePerm {
        /// Broker group.
        broker_name: String = "brokerName",
    }
}

answer_header! {
    /// How many topics were touched.
    AddWritePermAnswer {
        /// Their number.
        add_topic_count: i32 = "addTopicCount",
    }
}

request_header! {
    /// Forget a topic.
    DELETE_TOPIC_IN_NAMESRV DeleteTopicInNamesrv {
        /// Name of the topic.
        topic: String = "topic",
        /// Only on brokers of this cluster.
        cluster_name: Option<String> = "clusterName",
    }
}

request_header! {
    /// Add a topic to the brokers named in the body.
    REGISTER_TOPIC_IN_NAMESRV RegisterTopic {
        /// Name of the topic.
        topic: String = "topic",
    }
}

request_header! {
    /// Topics of a cluster.
    GET_TOPICS_BY_CLUSTER GetTopicsByCluster {
        /// Name of the cluster.
        cluster: String = "cluster",
    }
}

request_header! {
    /// Members of a broker group.
    GET_BROKER_MEMBER_GROUP GetBrokerMemberGroup {
        /// Cluster.
        cluster_name: String = "clusterName",
        /// Broker group.
        broker_name: String = "brokerName",
    }
}

request_header! {
    /// A broker is alive.
    BROKER_HEARTBEAT BrokerHeartbeat {
        /// Cluster.
        cluster_name: String = "clusterName",
        /// `ip:port` for clients.
        broker_addr: String = "brokerAddr",
        /// Broker group.
        broker_name: String = "brokerName",
        /// As registered.
        broker_id: Option<i64> = "brokerId",
        /// Of controllers.
        epoch: Option<i32> = "epoch",
        /// End of its log.
        max_offset: Option<i64> = "maxOffset",
        /// End of what is confirmed.
        confirm_offset: Option<i64> = "confirmOffset",
        /// Silence after which it counts as gone.
        heartbeat_timeout_mills: Option<i64> = "heartbeatTimeoutMills",
        /// Of controllers.
        election_priority: Option<i32> = "electionPriority",
    }
}
