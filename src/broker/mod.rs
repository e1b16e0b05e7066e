//! What a broker does with requests.

pub mod groups;
pub mod hold;
pub mod stats;
pub mod subscription;
pub mod system_topics;
pub mod topics;
