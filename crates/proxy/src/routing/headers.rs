//! Headers that routes change.

use http::{HeaderMap, HeaderValue};

use crate::access_log::Text;
use crate::config::http::{
    Append, Destination, HeaderAddition, HeaderMutations, HeaderText, Route, RouteTable, VirtualHost,
};

/// Everything that changes the headers of a request and its response, in the order in which it does.
#[derive(Debug, Clone, Copy)]
pub struct Changes<'a> {
    table: &'a RouteTable,
    host: &'a VirtualHost,
    route: &'a Route,
    destination: Option<&'a Destination>,
}

impl<'a> Changes<'a> {
    /// The changes of a route of a virtual host of a table, and of a weighted cluster if one was chosen.
    pub fn new(
        table: &'a RouteTable,
        host: &'a VirtualHost,
        route: &'a Route,
        destination: Option<&'a Destination>,
    ) -> Changes<'a> {
        Changes { table, host, route, destination }
    }

    /// Changes the headers of a request; `format` says what a text with operators is.
    pub fn request(&self, headers: &mut HeaderMap, format: impl Fn(&Text) -> String) {
        let destination = self.destination.map(|d| &d.request_headers);
        let table = &self.table.request_headers;
        self.apply([destination, Some(&self.route.request_headers), Some(&self.host.request_headers), Some(table)])
            .for_each(|mutations| mutations.apply(headers, &format));
    }

    /// Changes the headers of a response; `format` says what a text with operators is.
    pub fn response(&self, headers: &mut HeaderMap, format: impl Fn(&Text) -> String) {
        let destination = self.destination.map(|d| &d.response_headers);
        let table = &self.table.response_headers;
        self.apply([destination, Some(&self.route.response_headers), Some(&self.host.response_headers), Some(table)])
            .for_each(|mutations| mutations.apply(headers, &format));
    }

    /// What comes later wins: that is the table, unless it says that the most specific shall.
    fn apply(
        &self,
        from_specific: [Option<&'a HeaderMutations>; 4],
    ) -> impl Iterator<Item = &'a HeaderMutations> + use<'a> {
        let mut order = from_specific;
        if self.table.most_specific_wins {
            order.reverse();
        }
        order.into_iter().flatten()
    }
}

impl HeaderMutations {
    /// Removes, and then adds. Every value is made of the headers as they were before any was added.
    pub fn apply(&self, headers: &mut HeaderMap, format: &impl Fn(&Text) -> String) {
        for name in &self.remove {
            headers.remove(name);
        }
        let absent = |addition: &HeaderAddition| !headers.contains_key(&addition.name);
        let wanted = self.add.iter().filter(|addition| match addition.append {
            Append::AppendOrAdd | Append::OverwriteOrAdd => true,
            Append::AddIfAbsent => absent(addition),
            Append::OverwriteIfPresent => !absent(addition),
        });
        let values = wanted.filter_map(|addition| {
            let value = addition.value.of(format).filter(|value| addition.keep_empty || !value.is_empty())?;
            Some((addition, value))
        });
        let (overwriting, adding): (Vec<_>, Vec<_>) = values
            .partition(|(addition, _)| matches!(addition.append, Append::OverwriteOrAdd | Append::OverwriteIfPresent));
        for (addition, value) in overwriting {
            headers.insert(&addition.name, value);
        }
        for (addition, value) in adding {
            headers.append(&addition.name, value);
        }
    }
}

impl HeaderText {
    /// The value; `None` if it has characters that a header cannot have.
    fn of(&self, format: &impl Fn(&Text) -> String) -> Option<HeaderValue> {
        match self {
            HeaderText::Fixed(value) => Some(value.clone()),
            HeaderText::Format(text) => HeaderValue::try_from(format(text)).ok(),
        }
    }
}
