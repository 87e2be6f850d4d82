//! Patches to listeners, their chains, and the filters of these.

use api::istio::envoy_filter::{ApplyTo, FilterChainMatch, ListenerMatch, Operation};
use envoy::envoy::config::core::v3::{address, socket_address::PortSpecifier};
use envoy::envoy::config::listener::v3::{Filter, FilterChain, Listener, ListenerFilter, filter};
use envoy::envoy::extensions::filters::network::http_connection_manager::v3::{HttpConnectionManager, HttpFilter};
use prost::Message;
use prost_reflect::DynamicMessage;

use super::sequence::{Anchor, Sequence};
use super::{Direction, Doors, Finding, Patch, Speaks, Target, message, name, prepare};
use crate::{Code, Severity, wire};

pub(super) const NETWORK_FILTER: &str = "envoy.config.listener.v3.Filter";
pub(super) const HTTP_FILTER: &str = "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter";
const LISTENER_FILTER: &str = "envoy.config.listener.v3.ListenerFilter";
/// The filter of connections that has filters of requests.
pub(crate) const HCM: &str = "envoy.filters.network.http_connection_manager";
const HCM_TYPE: &str = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const TCP_PROXY: &str = "envoy.filters.network.tcp_proxy";
const ROUTER: &str = "envoy.filters.http.router";
/// Filters that Istio's proxies had, each just before the last one.
const GONE: [&str; 3] = ["mixer", "envoy.filters.network.sni_cluster", "envoy.filters.network.metadata_exchange"];

/// What became of a patch.
#[derive(Default)]
pub(super) struct Outcome {
    /// The chains, or listeners, that it is for.
    selected: usize,
    /// Those where its place was.
    placed: usize,
    /// Those of bytes, where filters of requests have none.
    bytes: usize,
}

pub(super) fn apply(patch: &Patch, target: &mut Target<'_>) -> Result<Vec<Finding>, String> {
    if patch.what == ApplyTo::Listener {
        return whole(patch, target).map(|()| Vec::new());
    }
    let doors = target.doors;
    let place = patch.place.listener.clone().unwrap_or_default();
    let outcome = in_listeners(patch, &place, target, |listener| is_selected(patch, doors, listener))?;
    Ok(findings(patch, &place, &outcome))
}

/// Applies a patch to some listeners, as far as it is for parts of them.
pub(super) fn in_listeners(
    patch: &Patch,
    place: &ListenerMatch,
    target: &mut Target<'_>,
    selected: impl Fn(&Listener) -> bool,
) -> Result<Outcome, String> {
    let mut outcome = Outcome::default();
    for listener in target.resources.listeners.values_mut().filter(|listener| selected(listener)) {
        match patch.what {
            ApplyTo::ListenerFilter => listener_filters(patch, place, listener, &mut outcome)?,
            ApplyTo::FilterChain => chains(patch, place, listener, target.direction, &mut outcome)?,
            _ => {
                let inbound = is_virtual(listener);
                let own = listener.filter_chains.iter_mut().chain(&mut listener.default_filter_chain);
                for chain in own.filter(|chain| has_chain(place, chain, inbound)) {
                    filters(patch, place, chain, &mut outcome)?;
                }
            }
        }
    }
    Ok(outcome)
}

/// What is said of a patch whose place is missing.
fn findings(patch: &Patch, place: &ListenerMatch, outcome: &Outcome) -> Vec<Finding> {
    let mut found = Vec::new();
    let error = |message: String| (Severity::Error, Code::ReferenceNotFound, message);
    if outcome.selected > outcome.placed {
        let filter = place.filter_chain.as_ref().and_then(|chain| chain.filter.as_ref());
        let inner = filter.and_then(|filter| filter.sub_filter.as_ref()).map(|sub| sub.name.as_str());
        let name = inner.or(filter.map(|filter| filter.name.as_str())).unwrap_or_default();
        let effect = if patch.guards {
            "it authorizes, so it is put first there, lest the listener be open"
        } else {
            "the patch has no effect there"
        };
        let missing = outcome.selected - outcome.placed;
        found.push(error(format!("{missing} of the selected chains have no filter {name:?}: {effect}")));
    }
    if outcome.bytes > 0 && outcome.selected == 0 {
        let effect = match patch.guards && place.port_number != 0 {
            true => "it authorizes, so every connection is refused there, lest the listener be open",
            false => "the patch has no effect",
        };
        found.push(error(format!("the selected chains carry bytes, which have no filters of requests: {effect}")));
    }
    found
}

pub(super) fn is_virtual(listener: &Listener) -> bool {
    listener.name == "virtualInbound"
}

fn port(listener: &Listener) -> Option<u32> {
    match listener.address.as_ref()?.address.as_ref()? {
        address::Address::SocketAddress(socket) => match socket.port_specifier.as_ref()? {
            PortSpecifier::PortValue(port) => Some(*port),
            PortSpecifier::NamedPort(_) => None,
        },
        _ => None,
    }
}

fn host(listener: &Listener) -> Option<&str> {
    match listener.address.as_ref()?.address.as_ref()? {
        address::Address::SocketAddress(socket) => Some(&socket.address),
        _ => None,
    }
}

/// Whether a patch is for a listener. The ports of a workload are those of the chains of its one listener, those of a
/// gateway those of its servers.
pub(super) fn is_selected(patch: &Patch, doors: &Doors, listener: &Listener) -> bool {
    let unset = ListenerMatch::default();
    let place = patch.place.listener.as_ref().unwrap_or(&unset);
    let named = place.name.is_empty() || place.name == listener.name;
    let (number, wanted) = (place.port_number, u32::from(place.port_number));
    let numbered = match doors.served.get(&listener.name) {
        _ if wanted == 0 => true,
        Some(served) if served.ports.contains(&number) => true,
        // Who guards a port that no server has may mean one where the pods listen.
        Some(_) => patch.guards && !doors.has_server(number) && port(listener) == Some(wanted),
        None => is_virtual(listener) || port(listener) == Some(wanted),
    };
    let addressed =
        patch.addresses.is_empty() || host(listener).is_some_and(|h| patch.addresses.iter().any(|a| a == h));
    named && numbered && addressed
}

/// Whether a patch is for a chain of a listener for which it is.
fn has_chain(place: &ListenerMatch, chain: &FilterChain, inbound: bool) -> bool {
    let condition = chain.filter_chain_match.clone().unwrap_or_default();
    let port = |wanted: u16| wanted == 0 || condition.destination_port == Some(wanted.into());
    let by_listener = !inbound || port(place.port_number);
    // The filter is where in the chain something is changed.
    let Some(FilterChainMatch { name, sni, transport_protocol, application_protocols, filter: _, destination_port }) =
        &place.filter_chain
    else {
        return by_listener;
    };
    let protocols = || application_protocols.split(',').map(str::trim);
    by_listener
        && port(*destination_port)
        && (name.is_empty() || *name == chain.name)
        && (sni.is_empty() || condition.server_names.contains(sni))
        && (transport_protocol.is_empty() || *transport_protocol == condition.transport_protocol)
        && (application_protocols.is_empty()
            || protocols().all(|p| condition.application_protocols.iter().any(|o| o == p)))
}

/// Adds, merges, removes or replaces listeners.
fn whole(patch: &Patch, target: &mut Target<'_>) -> Result<(), String> {
    let Target { direction, doors, resources } = target;
    let selected = |listener: &Listener| is_selected(patch, doors, listener);
    match (patch.operation, &patch.value) {
        (Operation::Add, Some(value)) if patch.adds(*direction) => {
            let listener: Listener = message::typed(value)?;
            resources.listeners.insert(listener.name.clone(), listener);
        }
        (Operation::Add, _) => {}
        (Operation::Remove, _) => resources.listeners.retain(|_, listener| !selected(listener)),
        (Operation::Merge, Some(value)) => {
            let own = resources.listeners.values_mut().filter(|listener| selected(listener));
            own.into_iter().try_for_each(|listener| merge("envoy.config.listener.v3.Listener", listener, value))?;
        }
        (operation, _) => return Err(format!("{operation:?} is not for listeners: the patch has no effect")),
    }
    Ok(())
}

fn chains(
    patch: &Patch,
    place: &ListenerMatch,
    listener: &mut Listener,
    direction: Direction,
    outcome: &mut Outcome,
) -> Result<(), String> {
    let inbound = is_virtual(listener);
    outcome.selected += 1;
    outcome.placed += 1;
    match (patch.operation, &patch.value) {
        (Operation::Add, Some(value)) if patch.adds(direction) => listener.filter_chains.push(message::typed(value)?),
        (Operation::Add, _) => {}
        (Operation::Remove, _) => listener.filter_chains.retain(|chain| !has_chain(place, chain, inbound)),
        (Operation::Merge, Some(value)) => {
            let own = listener.filter_chains.iter_mut().chain(&mut listener.default_filter_chain);
            for chain in own.filter(|chain| has_chain(place, chain, inbound)) {
                merge("envoy.config.listener.v3.FilterChain", chain, value)?;
            }
        }
        (operation, _) => return Err(format!("{operation:?} is not for chains: the patch has no effect")),
    }
    Ok(())
}

fn listener_filters(
    patch: &Patch,
    place: &ListenerMatch,
    listener: &mut Listener,
    outcome: &mut Outcome,
) -> Result<(), String> {
    let name = name::current("filters.listener", &place.listener_filter).into_owned();
    let anchor = if name.is_empty() { Anchor::None } else { Anchor::Named(&name) };
    let mut sequence: Sequence<'_, ListenerFilter> =
        Sequence { items: &mut listener.listener_filters, name: |f| &f.name, is_last: |_| false };
    outcome.selected += 1;
    outcome.placed += usize::from(edit(patch, LISTENER_FILTER, anchor, &mut sequence)?);
    Ok(())
}

/// Changes the filters of connections in a chain, or those of requests in its HTTP connection manager.
fn filters(patch: &Patch, place: &ListenerMatch, chain: &mut FilterChain, outcome: &mut Outcome) -> Result<(), String> {
    let at = chain.filters.iter().position(|filter| filter.name == HCM);
    let speaks = if at.is_some() { Speaks::Http } else { Speaks::Bytes };
    if patch.speaks != Speaks::Anything && patch.speaks != speaks {
        return Ok(());
    }
    let filter = place.filter_chain.as_ref().and_then(|chain| chain.filter.clone()).unwrap_or_default();
    if patch.what == ApplyTo::NetworkFilter {
        let name = name::current("filters.network", &filter.name).into_owned();
        let mut sequence = Sequence { items: &mut chain.filters, name: |f: &Filter| &f.name, is_last: is_terminal };
        outcome.selected += 1;
        return guarded(patch, NETWORK_FILTER, anchor(&name), &mut sequence)
            .map(|done| outcome.placed += usize::from(done));
    }
    let Some(manager) = at.and_then(|at| chain.filters.get_mut(at)) else {
        outcome.bytes += 1;
        if patch.guards && place.port_number != 0 {
            let refusal = prepare::refusal(ApplyTo::NetworkFilter);
            if let Some(refusal) = refusal {
                chain.filters.insert(0, message::typed(&refusal)?);
            }
        }
        return Ok(());
    };
    outcome.selected += 1;
    let name = filter.sub_filter.map(|sub| sub.name).unwrap_or_default();
    let name = name::current("filters.http", &name).into_owned();
    let mut done = false;
    with_manager(manager, |manager| {
        let mut sequence = Sequence {
            items: &mut manager.http_filters,
            name: |f: &HttpFilter| &f.name,
            is_last: |f| f.name == ROUTER,
        };
        done = guarded(patch, HTTP_FILTER, anchor(&name), &mut sequence)?;
        Ok(())
    })?;
    outcome.placed += usize::from(done);
    Ok(())
}

fn is_terminal(filter: &Filter) -> bool {
    filter.name == HCM || filter.name == TCP_PROXY
}

fn anchor(name: &str) -> Anchor<'_> {
    match name {
        "" => Anchor::None,
        name if GONE.contains(&name) => Anchor::BeforeLast,
        name => Anchor::Named(name),
    }
}

/// Edits, and puts what authorizes first where its place is missing.
fn guarded<T: Message + Default + Clone>(
    patch: &Patch,
    kind: &str,
    anchor: Anchor<'_>,
    sequence: &mut Sequence<'_, T>,
) -> Result<bool, String> {
    let done = edit(patch, kind, anchor, sequence)?;
    let inserts = !matches!(patch.operation, Operation::Remove | Operation::Merge);
    if !done
        && patch.guards
        && inserts
        && let Some(value) = &patch.value
    {
        sequence.put(Operation::InsertFirst, Anchor::None, &message::typed(value)?);
    }
    Ok(done)
}

fn edit<T: Message + Default + Clone>(
    patch: &Patch,
    kind: &str,
    anchor: Anchor<'_>,
    sequence: &mut Sequence<'_, T>,
) -> Result<bool, String> {
    match (patch.operation, &patch.value) {
        (Operation::Remove, _) => Ok(sequence.replace(anchor, None)),
        (Operation::Replace, Some(value)) => Ok(sequence.replace(anchor, Some(&message::typed(value)?))),
        (Operation::Merge, Some(value)) => {
            let mut some = false;
            for item in sequence.matching(anchor) {
                merge(kind, item, value)?;
                some = true;
            }
            Ok(some)
        }
        (operation, Some(value)) => Ok(sequence.put(operation, anchor, &message::typed(value)?)),
        (operation, None) => Err(format!("{operation:?} needs a value: the patch has no effect")),
    }
}

/// Merges a value into a message.
pub(super) fn merge<T: Message + Default>(kind: &str, target: &mut T, value: &DynamicMessage) -> Result<(), String> {
    let mut merged = message::dynamic(kind, target)?;
    message::merge(&mut merged, value)?;
    *target = message::typed(&merged)?;
    Ok(())
}

/// Changes an HTTP connection manager in place.
pub(crate) fn with_manager(
    filter: &mut Filter,
    change: impl FnOnce(&mut HttpConnectionManager) -> Result<(), String>,
) -> Result<(), String> {
    let Some(filter::ConfigType::TypedConfig(any)) = &mut filter.config_type else { return Ok(()) };
    let mut manager = HttpConnectionManager::decode(any.value.as_slice()).map_err(|error| error.to_string())?;
    change(&mut manager)?;
    *any = wire::any(HCM_TYPE, &manager);
    Ok(())
}
