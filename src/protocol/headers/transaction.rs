//! Transactions.

use super::{answer_header, request_header};

request_header! {
    /// A producer commits or rolls back.
    END_TRANSACTION EndTransaction {
        /// Name of the topic.
        topic: Option<String> = "topic",
        /// Group of the producer.
        producer_group: String = "producerGroup",
        /// Queue offset of the half message.
        tran_state_table_offset: i64 = "tranStateTableOffset",
        /// Physical offset of the half message.
        commit_log_offset: i64 = "commitLogOffset",
        /// State of [`crate::protocol::message::sys_flag`].
        commit_or_rollback: i32 = "commitOrRollback",
        /// Whether the broker had asked.
        from_transaction_check: bool = "fromTransactionCheck" or false,
        /// Offset message id of the half message.
        msg_id: String = "msgId",
        /// Unique id of the message.
        transaction_id: Option<String> = "transactionId",
    }
}

request_header! {
    /// To a producer: what became of this transaction? The body is the half message.
    CHECK_TRANSACTION_STATE CheckTransactionState {
        /// Name of the topic.
        topic: Option<String> = "topic",
        /// Queue offset of the half message.
        tran_state_table_offset: i64 = "tranStateTableOffset",
        /// Physical offset of the half message.
        commit_log_offset: i64 = "commitLogOffset",
        /// Unique id of the message.
        msg_id: Option<String> = "msgId",
        /// Unique id of the message.
        transaction_id: Option<String> = "transactionId",
        /// Offset message id of the half message.
        offset_msg_id: Option<String> = "offsetMsgId",
        /// Broker group.
        broker_name: Option<String> = "bname",
    }
}

request_header! {
    /// Take a timer message back.
    RECALL_MESSAGE RecallMessage {
        /// Group of the producer.
        producer_group: Option<String> = "producerGroup",
        /// Name of the topic.
        topic: String = "topic",
        /// Handle from the answer of the send.
        recall_handle: String = "recallHandle",
    }
}

answer_header! {
    /// What was taken back.
    RecallMessageAnswer {
        /// Unique id of the message.
        msg_id: String = "msgId",
    }
}
