//! Putting something among its like, which have names.

use api::istio::envoy_filter::Operation;

/// Things with names, of which the last may have to stay so.
pub(super) struct Sequence<'a, T> {
    pub(super) items: &'a mut Vec<T>,
    pub(super) name: fn(&T) -> &str,
    /// Whether a thing must stay last.
    pub(super) is_last: fn(&T) -> bool,
}

/// Beside what something is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor<'a> {
    /// Nothing in particular.
    None,
    /// One of this name.
    Named(&'a str),
    /// A filter that no proxy here has, but that stood before the last one.
    BeforeLast,
}

impl<T: Clone> Sequence<'_, T> {
    /// Puts a value where an operation says; whether there was such a place is returned.
    pub(super) fn put(&mut self, operation: Operation, anchor: Anchor<'_>, value: &T) -> bool {
        let end = self.end();
        let place = match (operation, anchor) {
            (Operation::InsertFirst, _) => Some(0),
            (Operation::Add, _) => Some(end),
            (Operation::InsertBefore, Anchor::None) => Some(0),
            (Operation::InsertAfter, Anchor::None) | (_, Anchor::BeforeLast) => Some(end),
            (Operation::InsertBefore, Anchor::Named(name)) => self.position(name),
            (Operation::InsertAfter, Anchor::Named(name)) => self.position(name).map(|at| (at + 1).min(end)),
            _ => None,
        };
        let Some(place) = place else { return false };
        self.items.insert(place, value.clone());
        true
    }

    /// Removes or replaces what has the name, or everything if none is asked for; whether there was any is returned.
    pub(super) fn replace(&mut self, anchor: Anchor<'_>, value: Option<&T>) -> bool {
        let name = self.name;
        let wanted = |item: &T| match anchor {
            Anchor::None => true,
            Anchor::Named(wanted) => name(item) == wanted,
            Anchor::BeforeLast => false,
        };
        let some = self.items.iter().any(wanted);
        match value {
            None => self.items.retain(|item| !wanted(item)),
            Some(value) => self.items.iter_mut().filter(|item| wanted(item)).for_each(|item| item.clone_from(value)),
        }
        some
    }

    /// The things that an anchor names.
    pub(super) fn matching(&mut self, anchor: Anchor<'_>) -> impl Iterator<Item = &mut T> {
        let name = self.name;
        self.items.iter_mut().filter(move |item| match anchor {
            Anchor::None => true,
            Anchor::Named(wanted) => name(item) == wanted,
            Anchor::BeforeLast => false,
        })
    }

    fn position(&self, wanted: &str) -> Option<usize> {
        self.items.iter().position(|item| (self.name)(item) == wanted)
    }

    /// Where something can be put last.
    fn end(&self) -> usize {
        let last = self.items.last().is_some_and(self.is_last);
        self.items.len() - usize::from(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(operation: Operation, anchor: Anchor<'_>) -> (String, bool) {
        let mut items: Vec<String> = ["a", "b", "router"].map(str::to_owned).to_vec();
        let mut sequence = Sequence { items: &mut items, name: |s| s.as_str(), is_last: |s| s == "router" };
        let done = sequence.put(operation, anchor, &"x".to_owned());
        (items.join(" "), done)
    }

    #[test]
    fn what_must_be_last_stays_last() {
        use Anchor::{BeforeLast, Named, None};
        use Operation::{Add, InsertAfter, InsertBefore, InsertFirst};
        let text = |operation, anchor| put(operation, anchor).0;
        assert_eq!(text(InsertFirst, Named("b")), "x a b router");
        assert_eq!(text(InsertBefore, Named("b")), "a x b router");
        assert_eq!(text(InsertAfter, Named("a")), "a x b router");
        assert_eq!(text(InsertAfter, Named("router")), "a b x router");
        assert_eq!(text(Add, None), "a b x router");
        assert_eq!(text(InsertBefore, BeforeLast), "a b x router");
        assert_eq!(text(InsertBefore, None), "x a b router");
        assert_eq!(put(InsertBefore, Named("none")), ("a b router".to_owned(), false));
    }
}
