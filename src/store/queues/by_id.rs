//! A compact map from queueId to something small.

/// Values by queueId, sorted. The queues of a topic are nearly always 0, 1, 2, …, so the id is
/// tried as the index first; a stray large id costs one element, not an array up to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ById<T>(Vec<(u32, T)>);

impl<T> Default for ById<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> ById<T> {
    pub(super) fn get(&self, queue_id: u32) -> Option<&T> {
        self.find(queue_id).ok().map(|at| &self.0[at].1)
    }

    /// The value of `queue_id`, put there first if it is missing.
    pub(super) fn get_or_insert(&mut self, queue_id: u32, new: impl FnOnce() -> T) -> &mut T {
        let at = self.find(queue_id).unwrap_or_else(|at| {
            self.0.insert(at, (queue_id, new()));
            at
        });
        &mut self.0[at].1
    }

    /// Ascending by id.
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (u32, &T)> {
        self.0.iter().map(|(id, value)| (*id, value))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.0.capacity() * size_of::<(u32, T)>()
    }

    fn find(&self, queue_id: u32) -> Result<usize, usize> {
        let guess = queue_id as usize;
        if self.0.get(guess).is_some_and(|(id, _)| *id == queue_id) {
            return Ok(guess);
        }
        self.0.binary_search_by_key(&queue_id, |(id, _)| *id)
    }
}

impl<T> FromIterator<(u32, T)> for ById<T> {
    /// Takes ascending ids without repetition, as [`ById::iter`] gives them.
    fn from_iter<I: IntoIterator<Item = (u32, T)>>(sorted: I) -> Self {
        let list = Vec::from_iter(sorted);
        debug_assert!(list.is_sorted_by(|a, b| a.0 < b.0));
        Self(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_in_any_order_are_found_and_listed_ascending() {
        let mut map = ById::default();
        for id in [3, 0, u32::MAX, 1, 2, 70_000] {
            *map.get_or_insert(id, || 0) += u64::from(id);
        }
        assert_eq!(
            map.iter().map(|(id, _)| id).collect::<Vec<_>>(),
            [0, 1, 2, 3, 70_000, u32::MAX]
        );
        assert_eq!(map.get(70_000), Some(&70_000));
        assert_eq!((map.get(4), map.len()), (None, 6));
    }
}
