//! Routes that requests from a gateway do not take, or cannot.

use api::istio::{Hostname, includes};
use serde_json::Value;

use super::reference::{MESH, destinations_of, find_gateway};
use super::world::{
    GATEWAY, Item, REQUEST_AUTHENTICATION, VIRTUAL_SERVICE, World, field, items, labels, texts, written,
};
use super::{Finding, Rule};
use crate::Severity;
use crate::mesh::DOMAIN;

const NOT_AFFECTED: Rule = Rule("IST0140", "IngressRouteRulesNotAffected", Severity::Warning);
const WITHOUT_TOKEN: Rule = Rule("IST0149", "JwtClaimBasedRoutingWithoutRequestAuthN", Severity::Error);
const SAME_CERTIFICATE: Rule = Rule("IST0138", "GatewayDuplicateCertificate", Severity::Warning);

/// What routes by a token's claims begin with.
const CLAIMS: &str = "@request.auth.claims";

/// The root namespace, whose objects hold everywhere.
const ROOT: &str = "istio-system";

/// Subsets for sidecars of hosts to which a gateway's routes lead past them.
pub(super) fn subsets(world: &World<'_>, found: &mut Vec<Finding>) {
    for outside in world.of(VIRTUAL_SERVICE) {
        let named: Vec<&str> = texts(&outside.spec()["gateways"]).collect();
        if named.is_empty() || named.contains(&MESH) {
            continue;
        }
        for destination in destinations_of(&outside).iter().filter(|d| d.subset().is_empty() && !d.host().is_empty()) {
            let host = Hostname::resolve(destination.host(), outside.namespace(), DOMAIN);
            for inside in world.of(VIRTUAL_SERVICE).filter(|inside| splits(inside, &host)) {
                let message = format!(
                    "Subset in virtual service {} has no effect on ingress gateway {} requests",
                    inside.full_name(),
                    outside.full_name(),
                );
                found.push(NOT_AFFECTED.at(&inside, "spec.http", message));
            }
        }
    }
}

/// Whether a virtual service for sidecars alone sends requests for a host to subsets of it.
fn splits(item: &Item<'_>, host: &Hostname) -> bool {
    let only_inside = texts(&item.spec()["gateways"]).all(|gateway| gateway == MESH);
    let resolve = |text: &str| Hostname::resolve(text, item.namespace(), DOMAIN);
    let is_for = texts(&item.spec()["hosts"]).any(|own| resolve(own) == *host);
    let mut destinations = destinations_of(item).into_iter();
    only_inside && is_for && destinations.any(|to| !to.subset().is_empty() && resolve(to.host()) == *host)
}

/// Routes by what a token claims, at gateways whose pods ask for none.
pub(super) fn claims(world: &World<'_>, found: &mut Vec<Finding>) {
    let workloads = world.workloads();
    for item in world.of(VIRTUAL_SERVICE) {
        let Some((at, key)) = claim(&item) else { continue };
        for name in texts(&item.spec()["gateways"]).filter(|name| *name != MESH) {
            let Some(gateway) = find_gateway(world, name, item.namespace()) else { continue };
            let wanted = labels(&gateway.spec()["selector"]);
            for workload in workloads.iter().filter(|workload| includes(&workload.labels, &wanted)) {
                let holds = |policy: &Item<'_>| {
                    let selector = labels(field(&policy.spec()["selector"], "matchLabels", "match_labels"));
                    let here = [ROOT, workload.namespace].contains(&policy.namespace());
                    here && includes(&workload.labels, &selector)
                };
                if world.of(REQUEST_AUTHENTICATION).any(|policy| holds(&policy)) {
                    continue;
                }
                let message = format!(
                    "The virtual service uses the JWT claim based routing (key: {key}) but found no request authentication for \
                     the gateway ({}) pod ({}). The request authentication must first be applied for the gateway pods to \
                     validate the JWT token and make the claims available for routing.",
                    gateway.full_name(),
                    written(&workload.labels),
                );
                found.push(WITHOUT_TOKEN.at(&item, at.clone(), message));
            }
        }
    }
}

/// The first condition on a claim.
fn claim<'a>(item: &Item<'a>) -> Option<(String, &'a str)> {
    let rules = items(&item.spec()["http"]).iter().enumerate();
    let mut conditions =
        rules.flat_map(|(i, rule)| items(&rule["match"]).iter().enumerate().map(move |(j, m)| (i, j, m)));
    conditions.find_map(|(i, j, condition)| {
        let lists = [
            ("headers", &condition["headers"]),
            ("withoutHeaders", field(condition, "withoutHeaders", "without_headers")),
        ];
        lists.into_iter().find_map(|(list, headers)| {
            let key = headers.as_object()?.keys().find(|key| key.starts_with(CLAIMS))?;
            Some((format!("spec.http[{i}].match[{j}].{list}"), key.as_str()))
        })
    })
}

/// Gateways of the same pods with the same certificate: a browser's connection to one of their hosts serves the other, too.
pub(super) fn certificates(world: &World<'_>, found: &mut Vec<Finding>) {
    let all: Vec<Item<'_>> = world.of(GATEWAY).collect();
    for item in &all {
        let own = labels(&item.spec()["selector"]);
        for (i, server) in items(&item.spec()["servers"]).iter().enumerate() {
            let Some(certificate) = certificate(server) else { continue };
            let same = |other: &&Item<'_>| {
                let theirs = labels(&other.spec()["selector"]);
                (includes(&theirs, &own) || includes(&own, &theirs)) && has(other, certificate)
            };
            let mut names: Vec<String> = all.iter().filter(same).map(Item::full_name).collect();
            names.sort();
            if names.len() > 1 {
                let message = format!(
                    "Duplicate certificate in multiple gateways [{}] may cause 404s if clients re-use HTTP2 connections.",
                    names.join(" "),
                );
                found.push(SAME_CERTIFICATE.at(item, format!("spec.servers[{i}].tls"), message));
            }
        }
    }
}

fn has(gateway: &Item<'_>, wanted: &str) -> bool {
    items(&gateway.spec()["servers"]).iter().any(|server| certificate(server) == Some(wanted))
}

/// The Secret or the file with the certificate of a server.
fn certificate(server: &Value) -> Option<&str> {
    let tls = &server["tls"];
    let names = [("credentialName", "credential_name"), ("serverCertificate", "server_certificate")];
    names.into_iter().filter_map(|(camel, snake)| field(tls, camel, snake).as_str()).find(|name| !name.is_empty())
}
