//! From the objects to what each connected proxy is told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use api::NamespacedName;
use api::istio::Hostname;
use envoy::TypeUrl;
use envoy::ads::{Resources, Snapshot};
use envoy::envoy::config::route::v3::RouteConfiguration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::debug;
use xds::{Changes, Diagnostic, InboundClass, Mesh, Node, Objects, OutboundClass, Outdated, Role, Table};

use super::credentials::{Credentials, lacks};
use super::encode::Encoder;
use super::proxies::Proxy;
use super::{ControlPlane, access};
use crate::engine::Engine;

/// How long nothing must change until what has changed is built. One command writes its objects a few milliseconds apart,
/// and so do controllers; Istio waits for 100 ms, since its objects come over a network and its builds take seconds.
const QUIET: Duration = Duration::from_millis(5);
/// When a build begins although changes keep coming.
const PATIENCE: Duration = Duration::from_millis(100);

/// What was built last, for whoever asks.
pub(super) struct World {
    pub(super) mesh: Arc<Mesh>,
    /// What objects say without effect, as far as the connected proxies show it.
    pub(super) diagnostics: BTreeSet<Diagnostic>,
}

impl Default for World {
    fn default() -> World {
        World { mesh: Arc::new(Mesh::new(&Objects::default())), diagnostics: BTreeSet::new() }
    }
}

/// Builds for ever.
pub(super) async fn run(plane: ControlPlane, engine: Engine) {
    let mut changed = plane.0.changed.hear();
    let mut joined = plane.0.proxies.joined();
    futures::join!(engine.pods.ready(), engine.services.ready(), engine.slices.ready(), engine.nodes.ready());
    while !plane.declared().is_complete() || !plane.credentials().is_complete() {
        heard(&mut changed).await;
    }
    let mut builder = Builder::new(plane.clone());
    let mut since = Instant::now();
    loop {
        let objects = objects(&plane, &engine);
        builder = on_its_own_thread(builder, move |builder| builder.refresh(&objects, since)).await;
        // Kept while proxies join: what it has heard of must not be forgotten.
        let mut pause = std::pin::pin!(quiet(&mut changed));
        since = loop {
            tokio::select! {
                since = &mut pause => break since,
                () = heard(&mut joined) => {
                    builder = on_its_own_thread(builder, |builder| builder.serve(Instant::now())).await;
                }
            }
        };
    }
}

/// A build takes milliseconds, for which no thread of the runtime can be spared.
async fn on_its_own_thread(mut builder: Builder, work: impl FnOnce(&mut Builder) + Send + 'static) -> Builder {
    let done = tokio::task::spawn_blocking(move || {
        work(&mut builder);
        builder
    });
    match done.await {
        Ok(builder) => builder,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Returns once something has changed and changes pause, or at the latest when patience ends; when the first change was
/// heard of is returned.
async fn quiet(changed: &mut watch::Receiver<()>) -> Instant {
    heard(changed).await;
    let since = Instant::now();
    let latest = since + PATIENCE;
    let pause = async { while timeout(QUIET, heard(changed)).await.is_ok() {} };
    // Both outcomes are a reason to build.
    let _patience_ended = timeout_at(latest, pause).await;
    since
}

async fn heard(signal: &mut watch::Receiver<()>) {
    if signal.changed().await.is_err() {
        // Nobody is left who could tell anything.
        std::future::pending::<()>().await;
    }
}

/// Everything that the watches know.
fn objects(plane: &ControlPlane, engine: &Engine) -> Objects {
    let mut objects = plane.declared().objects();
    objects.nodes = engine.nodes.all();
    objects.pods = engine.pods.all();
    objects.services = engine.services.all();
    objects.endpoint_slices = engine.slices.all();
    objects
}

struct Builder {
    plane: ControlPlane,
    world: Arc<World>,
    outbound: BTreeMap<OutboundClass, Outbound>,
    inbound: BTreeMap<InboundClass, Inbound>,
    /// What is outdated and has not been made anew yet.
    retired: BTreeMap<InboundClass, Inbound>,
    /// The accounts of proxies that need Secrets, and what gateways lack of these.
    accounts: BTreeSet<NamespacedName>,
    lacks: BTreeSet<Diagnostic>,
    encoder: Encoder,
}

/// The Secrets of a class, as they were after so many changes of any.
#[derive(Clone)]
struct Held {
    resources: Arc<Resources>,
    changes: u64,
}

/// What proxies of one class are told about the calls that they make.
struct Outbound {
    clusters: Arc<Resources>,
    endpoints: Arc<Resources>,
    listeners: Arc<Resources>,
    routes: Arc<Resources>,
    /// Whose calls they are, by namespace, and the Secrets there that they need.
    namespace: String,
    secrets: BTreeSet<String>,
    credentials: Held,
    /// What was found about everything but routes, and about each table of them.
    diagnostics: BTreeSet<Diagnostic>,
    of_tables: BTreeMap<String, BTreeSet<Diagnostic>>,
}

/// What they are told about the calls that they take.
struct Inbound {
    clusters: Arc<Resources>,
    listeners: Arc<Resources>,
    diagnostics: BTreeSet<Diagnostic>,
    /// One of them.
    node: Node,
}

impl Builder {
    fn new(plane: ControlPlane) -> Builder {
        Builder {
            world: plane.world(),
            plane,
            outbound: BTreeMap::new(),
            inbound: BTreeMap::new(),
            retired: BTreeMap::new(),
            accounts: BTreeSet::new(),
            lacks: BTreeSet::new(),
            encoder: Encoder::default(),
        }
    }

    /// Makes everything anew that the objects ask for in another way than before.
    fn refresh(&mut self, objects: &Objects, since: Instant) {
        let (old, started) = (self.world.mesh.clone(), Instant::now());
        let mesh = Arc::new(old.after(objects));
        self.world = Arc::new(World { mesh: mesh.clone(), diagnostics: BTreeSet::new() });
        let changes = Changes::between(&old, &mesh);
        for (class, outbound) in std::mem::take(&mut self.outbound) {
            let new = match changes.outbound(&class) {
                Outdated::Nothing => outbound,
                Outdated::Parts { clusters, tables } => match self.patch(&class, &outbound, &clusters, &tables) {
                    Some(patched) => patched,
                    None => self.make_outbound(&class, &outbound.namespace, Some(&outbound)),
                },
                Outdated::Everything => self.make_outbound(&class, &outbound.namespace, Some(&outbound)),
            };
            let credentials = self.credentials(&new.namespace, &new.secrets, Some(&new));
            self.outbound.insert(class, Outbound { credentials, ..new });
        }
        let outdated = |_: &InboundClass, inbound: &mut Inbound| changes.inbound(&inbound.node);
        self.retired = self.inbound.extract_if(.., outdated).collect();
        self.serve(since);
        debug!(elapsed = ?started.elapsed(), "the mesh is built");
    }

    /// Gives each proxy what it is to be told now.
    fn serve(&mut self, since: Instant) {
        let (mut callers, mut called) = (BTreeSet::new(), BTreeSet::new());
        self.accounts.clear();
        self.lacks.clear();
        for proxy in self.plane.0.proxies.all() {
            let Some(node) = self.world.mesh.node(&proxy.pod) else { continue };
            let node = Node { role: proxy.role, ..node };
            let (outbound, inbound) = self.tell(&proxy, &node, since);
            callers.insert(outbound);
            called.insert(inbound);
        }
        self.outbound.retain(|class, _| callers.contains(class));
        self.inbound.retain(|class, _| called.contains(class));
        self.retired.clear();
        self.encoder.sweep();
        self.plane.0.access.sweep(&self.accounts);
        self.publish();
    }

    fn tell(&mut self, proxy: &Proxy, node: &Node, since: Instant) -> (OutboundClass, InboundClass) {
        let mesh = self.world.mesh.clone();
        let (callers, called) = (mesh.outbound_class(node), mesh.inbound_class(node));
        if !self.outbound.contains_key(&callers) {
            let made = self.make_outbound(&callers, &node.namespace, None);
            self.outbound.insert(callers.clone(), made);
        }
        if !self.inbound.contains_key(&called) {
            let old = self.retired.remove(&called);
            let made = self.make_inbound(node, old.as_ref());
            self.inbound.insert(called.clone(), made);
        }
        if let (Some(outbound), Some(inbound)) = (self.outbound.get(&callers), self.inbound.get(&called)) {
            let mut snapshot = Snapshot::default();
            snapshot.add(TypeUrl::Cluster, outbound.clusters.clone());
            snapshot.add(TypeUrl::Cluster, inbound.clusters.clone());
            snapshot.add(TypeUrl::Endpoint, outbound.endpoints.clone());
            snapshot.add(TypeUrl::Listener, outbound.listeners.clone());
            snapshot.add(TypeUrl::Listener, inbound.listeners.clone());
            snapshot.add(TypeUrl::Route, outbound.routes.clone());
            if !outbound.secrets.is_empty()
                && let Some(account) = self.plane.0.pods.get(&proxy.pod).map(|pod| access::account(&pod))
            {
                let may = self.plane.0.access.may_list_secrets(&account);
                if may == Some(true) {
                    snapshot.add(TypeUrl::Secret, outbound.credentials.resources.clone());
                }
                if node.role == Role::Router && may.is_some() {
                    let denied = Some(&account).filter(|_| may == Some(false));
                    self.lacks.extend(lacks(mesh.objects(), node, &self.plane.credentials(), denied));
                }
                self.accounts.insert(account);
            }
            proxy.tell(snapshot, since);
        }
        (callers, called)
    }

    fn make_outbound(&mut self, class: &OutboundClass, namespace: &str, old: Option<&Outbound>) -> Outbound {
        let (made, of_tables) = xds::outbound_apart(&self.world.mesh, class);
        let secrets = Credentials::concerned(made.secrets);
        let credentials = self.credentials(namespace, &secrets, old);
        let encoder = &mut self.encoder;
        Outbound {
            of_tables,
            namespace: namespace.to_owned(),
            credentials,
            secrets,
            clusters: encoder.all(TypeUrl::Cluster, made.clusters, old.map(|o| &o.clusters)),
            endpoints: encoder.all(TypeUrl::Endpoint, made.endpoints, old.map(|o| &o.endpoints)),
            listeners: encoder.all(TypeUrl::Listener, made.listeners, old.map(|o| &o.listeners)),
            routes: encoder.all(TypeUrl::Route, made.routes, old.map(|o| &o.routes)),
            diagnostics: made.diagnostics,
        }
    }

    /// The Secrets of a namespace that its proxies need, as far as they are there.
    fn credentials(&mut self, namespace: &str, names: &BTreeSet<String>, old: Option<&Outbound>) -> Held {
        let known = self.plane.credentials();
        let changes = known.changes();
        if let Some(old) = old.filter(|old| old.credentials.changes == changes && old.secrets == *names) {
            return old.credentials.clone();
        }
        let resources = known.of(namespace, names);
        Held { resources: self.encoder.all(TypeUrl::Secret, resources, old.map(|o| &o.credentials.resources)), changes }
    }

    /// What a class is told, with the clusters of some hosts and some tables made anew; `None` if it would be told of
    /// others.
    fn patch(
        &mut self,
        class: &OutboundClass,
        old: &Outbound,
        hosts: &BTreeSet<Hostname>,
        tables: &BTreeSet<String>,
    ) -> Option<Outbound> {
        let made = xds::clusters_of(&self.world.mesh, class, hosts);
        let (routes, found) = match tables.is_empty() {
            true => Default::default(),
            false => apart(xds::tables(&self.world.mesh, class, Some(tables))),
        };
        let mut of_tables = old.of_tables.clone();
        of_tables.extend(found);
        let secrets = old.secrets.union(&Credentials::concerned(made.secrets)).cloned().collect();
        let credentials = self.credentials(&old.namespace, &secrets, Some(old));
        Some(Outbound {
            of_tables,
            namespace: old.namespace.clone(),
            secrets,
            credentials,
            clusters: self.encoder.some(TypeUrl::Cluster, made.clusters, &old.clusters)?,
            endpoints: self.encoder.some(TypeUrl::Endpoint, made.endpoints, &old.endpoints)?,
            listeners: old.listeners.clone(),
            routes: self.encoder.some(TypeUrl::Route, routes, &old.routes)?,
            diagnostics: old.diagnostics.clone(),
        })
    }

    fn make_inbound(&mut self, node: &Node, old: Option<&Inbound>) -> Inbound {
        let made = xds::inbound(&self.world.mesh, node);
        // What refuses connections is the same in both directions, and comes with the other.
        let clusters = made.clusters.into_iter().filter(|(name, _)| name != xds::BLACK_HOLE);
        let encoder = &mut self.encoder;
        Inbound {
            clusters: encoder.all(TypeUrl::Cluster, clusters, old.map(|o| &o.clusters)),
            listeners: encoder.all(TypeUrl::Listener, made.listeners, old.map(|o| &o.listeners)),
            diagnostics: made.diagnostics,
            node: node.clone(),
        }
    }

    /// Lets others see what was built.
    fn publish(&mut self) {
        let mut diagnostics = self.world.mesh.diagnostics().clone();
        diagnostics.extend(self.outbound.values().flat_map(|o| o.diagnostics.iter().cloned()));
        diagnostics.append(&mut self.lacks);
        let tables = self.outbound.values().flat_map(|o| o.of_tables.values());
        diagnostics.extend(tables.flatten().cloned());
        diagnostics.extend(self.inbound.values().flat_map(|i| i.diagnostics.iter().cloned()));
        self.world = Arc::new(World { mesh: self.world.mesh.clone(), diagnostics });
        *self.plane.0.world.write().unwrap_or_else(PoisonError::into_inner) = self.world.clone();
        self.plane.0.built.send_replace(true);
    }
}

type Routes = Vec<(String, RouteConfiguration)>;

/// Tables, and what was found about each.
fn apart(tables: BTreeMap<String, Table>) -> (Routes, BTreeMap<String, BTreeSet<Diagnostic>>) {
    let (mut routes, mut found) = (Routes::new(), BTreeMap::new());
    for (name, Table { routes: table, diagnostics }) in tables {
        found.insert(name.clone(), diagnostics);
        routes.push((name, table));
    }
    (routes, found)
}
