//! What a consumer wants of a topic: `A || B` expressions and the filter they make.

use std::collections::BTreeSet;

use smallvec::SmallVec;

use crate::protocol::bodies::SubscriptionData;
use crate::protocol::message::tags_code;

const ALL: &str = SubscriptionData::ALL;
const TAG: &str = SubscriptionData::TAG;

/// Decides from the ConsumeQueue alone whether a message may interest a consumer. Tags are
/// compared by hash; consumers compare the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TagFilter {
    /// Everything.
    All,
    /// Messages with one of these tag hashes.
    AnyOf(SmallVec<[i32; 4]>),
}

impl TagFilter {
    /// What it holds beside itself.
    pub fn bytes(&self) -> usize {
        match self {
            Self::AnyOf(codes) if codes.spilled() => codes.capacity() * size_of::<i32>(),
            Self::AnyOf(_) | Self::All => 0,
        }
    }

    /// Whether a message with this tag hash passes.
    pub fn passes(&self, code: i64) -> bool {
        match self {
            Self::All => true,
            // The ConsumeQueue keeps the 32-bit hash in 64 bits; clients compare 32.
            #[allow(clippy::cast_possible_truncation)]
            Self::AnyOf(codes) => codes.contains(&(code as i32)),
        }
    }
}

/// What a consumer group wants of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// The topic.
    pub topic: String,
    /// The expression, as the consumer wrote it.
    pub expression: String,
    /// What kind of expression it is: `TAG` or another.
    pub kind: String,
    /// The filter it makes.
    pub filter: TagFilter,
    /// Chosen by the consumer; a higher one replaces a lower one.
    pub version: i64,
}

impl Subscription {
    /// A subscription as a consumer announces it. An expression of another kind than tags takes
    /// everything here; pulls with one are refused.
    pub fn new(
        topic: &str,
        expression: &str,
        kind: Option<&str>,
        version: i64,
    ) -> Result<Self, ExpressionError> {
        let bytes = topic.len() + expression.len() + kind.map_or(0, str::len);
        if bytes > EXPRESSION_BYTES_MAX {
            return Err(ExpressionError::TooLong { bytes });
        }
        let kind = kind.filter(|kind| !kind.is_empty()).unwrap_or(TAG);
        let filter = if kind == TAG { parse(Some(expression))? } else { TagFilter::All };
        Ok(Self {
            topic: topic.to_owned(),
            expression: expression.to_owned(),
            kind: kind.to_owned(),
            filter,
            version,
        })
    }

    /// The subscription as it is shown to tools.
    #[allow(clippy::cast_possible_truncation)] // the hash is 32 bits wide
    pub fn data(&self) -> SubscriptionData {
        let tags = match self.filter {
            TagFilter::All => BTreeSet::new(),
            TagFilter::AnyOf(_) => tags_of(&self.expression),
        };
        SubscriptionData {
            class_filter_mode: false,
            code_set: tags.iter().map(|tag| tags_code(tag) as i32).collect(),
            expression_type: self.kind.clone(),
            sub_string: self.expression.clone(),
            sub_version: self.version,
            tags_set: tags.into_iter().map(str::to_owned).collect(),
            topic: self.topic.clone(),
        }
    }

    /// What it takes in memory.
    pub fn bytes(&self) -> usize {
        let texts = self.topic.len() + self.expression.len() + self.kind.len();
        size_of::<Self>() + texts + self.filter.bytes()
    }
}

/// Longest expression: filters are kept with every pull that waits, and asked for every message.
pub const EXPRESSION_BYTES_MAX: usize = 16 * 1024;

/// An expression that makes no filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionError {
    /// There is no tag in it, as in `||`.
    #[error("parse the consumer's subscription failed: no tag in [{expression}]")]
    NoTag {
        /// The expression.
        expression: String,
    },
    /// It is longer than [`EXPRESSION_BYTES_MAX`].
    #[error(
        "parse the consumer's subscription failed: {bytes} bytes, {} are allowed",
        EXPRESSION_BYTES_MAX
    )]
    TooLong {
        /// Its length.
        bytes: usize,
    },
}

/// The filter that an expression makes. Absent, empty and `*` take everything.
pub fn parse(expression: Option<&str>) -> Result<TagFilter, ExpressionError> {
    let expression = expression.unwrap_or_default();
    if expression.len() > EXPRESSION_BYTES_MAX {
        return Err(ExpressionError::TooLong { bytes: expression.len() });
    }
    if matches!(expression, "" | ALL) {
        return Ok(TagFilter::All);
    }
    let tags = tags_of(expression);
    if tags.is_empty() {
        return Err(ExpressionError::NoTag { expression: expression.to_owned() });
    }
    #[allow(clippy::cast_possible_truncation)] // the hash is 32 bits wide
    let codes = tags.iter().map(|tag| tags_code(tag) as i32).collect();
    Ok(TagFilter::AnyOf(codes))
}

fn tags_of(expression: &str) -> BTreeSet<&str> {
    expression.split("||").map(str::trim).filter(|tag| !tag.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_tags_joined_by_two_bars() {
        let rows: [(Option<&str>, &[&str]); 7] = [
            (None, &[]),
            (Some(""), &[]),
            (Some("*"), &[]),
            (Some("TagA"), &["TagA"]),
            (Some("TagA || TagB"), &["TagA", "TagB"]),
            (Some("b||a|| b ||"), &["a", "b"]),
            (Some("标签"), &["标签"]),
        ];
        for (expression, want) in rows {
            let data = Subscription::new("T", expression.unwrap_or_default(), None, 1).unwrap();
            let tags = data.data().tags_set;
            assert_eq!(tags.iter().collect::<Vec<_>>(), want, "{expression:?}");
            assert_eq!(parse(expression).unwrap() == TagFilter::All, want.is_empty());
        }
        for bad in ["||", " || ", "  "] {
            assert!(parse(Some(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_expression_that_would_be_a_burden_is_refused() {
        let long = "a||".repeat(EXPRESSION_BYTES_MAX);
        assert!(matches!(parse(Some(&long)), Err(ExpressionError::TooLong { .. })));
        let rows: [(&str, &str, &str); 3] =
            [("T", &long, "TAG"), ("T", &long, "SQL92"), (&long, "*", "TAG")];
        for (topic, expression, kind) in rows {
            assert!(Subscription::new(topic, expression, Some(kind), 1).is_err());
        }
    }

    #[test]
    fn the_filter_compares_32_bit_hashes() {
        let filter = parse(Some("TagA || refund")).unwrap();
        assert!(filter.passes(2_598_919), "TagA");
        assert!(filter.passes(tags_code("refund")), "a negative hash");
        assert!(!filter.passes(tags_code("TagB")) && !filter.passes(0));
        assert!(TagFilter::All.passes(0));
    }
}
