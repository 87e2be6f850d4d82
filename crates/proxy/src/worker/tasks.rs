//! Tasks that a worker keeps, one for each cluster that wants it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use tokio::task::AbortHandle;

/// Tasks by the name of their cluster, each with what it does.
#[derive(Debug)]
pub(super) struct Tasks<T>(RefCell<HashMap<Arc<str>, (T, AbortHandle)>>);

impl<T> Default for Tasks<T> {
    fn default() -> Tasks<T> {
        Tasks(RefCell::default())
    }
}

impl<T> Tasks<T> {
    /// Ends the tasks that nobody wants, or not as they are, and starts those that are missing.
    pub(super) fn keep<F: Future<Output = ()> + 'static>(
        &self,
        wanted: HashMap<Arc<str>, T>,
        same: impl Fn(&T, &T) -> bool,
        start: impl Fn(&Arc<str>, &T) -> F,
    ) {
        let mut tasks = self.0.borrow_mut();
        tasks.retain(|name, (what, task)| {
            let keep = wanted.get(name).is_some_and(|wanted| same(wanted, what));
            if !keep {
                task.abort();
            }
            keep
        });
        for (name, what) in wanted {
            tasks.entry(name.clone()).or_insert_with(|| {
                let task = tokio::task::spawn_local(start(&name, &what));
                (what, task.abort_handle())
            });
        }
    }
}
