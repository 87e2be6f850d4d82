//! Who owns whom.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

/// The `metadata.uid` of an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Uid(pub(super) String);

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where an object is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) group: String,
    pub(super) kind: String,
    /// Empty for cluster-scoped kinds.
    pub(super) namespace: String,
    pub(super) name: String,
}

struct Node {
    place: Place,
    /// The owners, and whether the object blocks their deletion in the foreground.
    owners: Vec<(Uid, bool)>,
}

/// The objects that own or are owned, and their references. Objects that are neither are not kept.
#[derive(Default)]
pub(super) struct Graph {
    nodes: BTreeMap<Uid, Node>,
    dependents: BTreeMap<Uid, BTreeSet<Uid>>,
}

impl Graph {
    /// Records an object as it is; returns which objects must be looked at.
    pub(super) fn observe(&mut self, place: Place, meta: &ObjectMeta) -> Vec<Uid> {
        let uid = Uid(meta.uid.clone().unwrap_or_default());
        let references = meta.owner_references.as_deref().unwrap_or_default();
        let ending = meta.deletion_timestamp.is_some();
        let held = meta.finalizers.iter().flatten().any(|f| f == super::FOREGROUND || f == super::ORPHAN);
        let owners = owners(references);
        let before = self.nodes.get(&uid).map(|node| node.owners.clone());
        let changed = before.as_ref() != Some(&owners);
        // Former owners may have waited for this object.
        let freed = before.unwrap_or_default().into_iter().map(|(owner, _)| owner);
        let freed: Vec<Uid> = freed.filter(|owner| owners.iter().all(|(kept, _)| kept != owner)).collect();
        for owner in &freed {
            self.unlink(owner, &uid);
        }
        for (owner, _) in &owners {
            self.dependents.entry(owner.clone()).or_default().insert(uid.clone());
        }
        let mut affected = freed;
        if (ending && held) || (changed && !owners.is_empty()) {
            affected.push(uid.clone());
        }
        self.nodes.insert(uid, Node { place, owners });
        affected
    }

    /// Removes an object; its dependents are to be looked at, and its owners, which may have waited for it.
    pub(super) fn forget(&mut self, uid: &str) -> Vec<Uid> {
        let uid = Uid(uid.to_owned());
        let owners = self.nodes.remove(&uid).map(|node| node.owners).unwrap_or_default();
        let mut affected: Vec<Uid> = self.dependents.remove(&uid).into_iter().flatten().collect();
        for (owner, _) in owners {
            self.unlink(&owner, &uid);
            affected.push(owner);
        }
        affected
    }

    /// Replaces all objects of a kind.
    pub(super) fn replace(
        &mut self,
        group: &str,
        kind: &str,
        objects: impl Iterator<Item = (Place, ObjectMeta)>,
    ) -> Vec<Uid> {
        let here = self.nodes.iter().filter(|(_, node)| node.place.group == group && node.place.kind == kind);
        let mut before: BTreeSet<Uid> = here.map(|(uid, _)| uid.clone()).collect();
        let mut affected = Vec::new();
        for (place, meta) in objects {
            before.remove(&Uid(meta.uid.clone().unwrap_or_default()));
            affected.extend(self.observe(place, &meta));
        }
        affected.extend(before.into_iter().flat_map(|uid| self.forget(&uid.0)));
        affected
    }

    fn unlink(&mut self, owner: &Uid, dependent: &Uid) {
        if let Some(set) = self.dependents.get_mut(owner) {
            set.remove(dependent);
            if set.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }

    pub(super) fn place(&self, uid: &Uid) -> Option<Place> {
        self.nodes.get(uid).map(|node| node.place.clone())
    }

    pub(super) fn has_dependents(&self, uid: &Uid) -> bool {
        self.dependents.contains_key(uid)
    }

    pub(super) fn dependents(&self, uid: &Uid) -> Vec<(Uid, Place)> {
        let dependents = self.dependents.get(uid).into_iter().flatten();
        dependents.filter_map(|uid| Some((uid.clone(), self.place(uid)?))).collect()
    }

    /// Whether a dependent keeps the owner from going in the foreground.
    pub(super) fn blocks(&self, owner: &Uid) -> bool {
        let mut dependents = self.dependents.get(owner).into_iter().flatten().filter_map(|uid| self.nodes.get(uid));
        dependents.any(|node| node.owners.iter().any(|(uid, blocks)| uid == owner && *blocks))
    }
}

fn owners(references: &[OwnerReference]) -> Vec<(Uid, bool)> {
    references.iter().map(|r| (Uid(r.uid.clone()), r.block_owner_deletion == Some(true))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str) -> Place {
        Place { group: String::new(), kind: "Pod".to_owned(), namespace: "ns".to_owned(), name: name.to_owned() }
    }

    fn meta(uid: &str, owners: &[&str]) -> ObjectMeta {
        let reference = |uid: &&str| OwnerReference {
            uid: (*uid).to_owned(),
            block_owner_deletion: Some(true),
            ..OwnerReference::default()
        };
        ObjectMeta {
            uid: Some(uid.to_owned()),
            owner_references: Some(owners.iter().map(reference).collect()),
            ..ObjectMeta::default()
        }
    }

    fn uids(list: &[&str]) -> Vec<Uid> {
        list.iter().map(|uid| Uid((*uid).to_owned())).collect()
    }

    #[test]
    fn dependents_are_looked_at_when_their_owner_goes() {
        let mut graph = Graph::default();
        assert_eq!(graph.observe(place("owner"), &meta("o", &[])), []);
        assert_eq!(graph.observe(place("a"), &meta("a", &["o"])), uids(&["a"]), "its owner may be gone already");
        assert_eq!(graph.observe(place("a"), &meta("a", &["o"])), [], "nothing has changed");
        assert_eq!(graph.forget("o"), uids(&["a"]));
    }

    #[test]
    fn an_owner_waits_for_those_that_block_it() {
        let mut graph = Graph::default();
        let owner = Uid("o".to_owned());
        graph.observe(place("owner"), &meta("o", &[]));
        graph.observe(place("a"), &meta("a", &["o"]));
        assert!(graph.blocks(&owner) && graph.has_dependents(&owner));
        let mut leaving = meta("o", &[]);
        leaving.deletion_timestamp = Some(crate::engine::now());
        leaving.finalizers = Some(vec![super::super::FOREGROUND.to_owned()]);
        assert_eq!(graph.observe(place("owner"), &leaving), uids(&["o"]));
        assert_eq!(graph.forget("a"), uids(&["o"]), "the owner may go now");
        assert!(!graph.blocks(&owner));
    }

    #[test]
    fn a_new_list_forgets_what_is_not_in_it() {
        let mut graph = Graph::default();
        graph.observe(place("owner"), &meta("o", &[]));
        graph.observe(place("a"), &meta("a", &["o"]));
        let affected = graph.replace("", "Pod", std::iter::once((place("a"), meta("a", &["o"]))));
        assert_eq!(affected, uids(&["a"]), "its owner disappeared while nobody watched");
    }
}
