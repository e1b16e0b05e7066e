//! Values of flags that have a form of their own.

use std::collections::BTreeMap;

/// Most queues of a topic: brokers of this project refuse more.
pub(super) const QUEUES_MAX: i64 = 65_536;

/// Attributes to set and to remove: names with their sign, and values.
pub(super) type Attributes = BTreeMap<String, String>;

/// `+a=b,+c=d,-e`: attributes to set and to remove, with their sign.
pub(super) fn attributes(text: &str) -> Result<Attributes, String> {
    let mut changes = BTreeMap::new();
    for change in text.split(',').map(str::trim).filter(|change| !change.is_empty()) {
        let (name, value) = match change.split_once('=') {
            Some((name, value)) => (name.trim(), value.trim()),
            None => (change, ""),
        };
        let good = match name.chars().next() {
            Some('+') => name.len() > 1 && !value.is_empty(),
            Some('-') => name.len() > 1 && value.is_empty(),
            _ => false,
        };
        if !good {
            return Err(format!("{change} is neither +name=value nor -name"));
        }
        if changes.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(format!("{name} is there twice"));
        }
    }
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_have_a_sign() {
        let rows = [
            ("+a=b,-c", Ok(vec![("+a", "b"), ("-c", "")])),
            (" +a = b ,", Ok(vec![("+a", "b")])),
            ("", Ok(vec![])),
            ("a=b", Err("a=b is neither +name=value nor -name".to_owned())),
            ("+a", Err("+a is neither +name=value nor -name".to_owned())),
            ("-a=b", Err("-a=b is neither +name=value nor -name".to_owned())),
            ("+a=b,+a=c", Err("+a is there twice".to_owned())),
        ];
        for (text, want) in rows {
            let want = want.map(|pairs| {
                let owned = pairs.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned()));
                owned.collect::<BTreeMap<_, _>>()
            });
            assert_eq!(attributes(text), want, "{text}");
        }
    }
}
