//! Measures the store: durable writes, reads, fan-out to watches, memory.
//!
//! `cargo run --release -p apiserver --example store_bench -- [DIRECTORY]`; the directory's file system is what syncs.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use api::GroupResource;
use apiserver::{Key, Revision, Store, Write};
use serde_json::{Value, json};

const WRITERS: usize = 16;
const OBJECTS: usize = 1000;
const WATCHES: usize = 1000;
const SPAN: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    let base = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("."), PathBuf::from);
    let directory = base.join(format!("store-bench-{}", std::process::id()));
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| error.to_string())
        .and_then(|runtime| runtime.block_on(measure(directory.clone())));
    if let Err(error) = std::fs::remove_dir_all(&directory) {
        eprintln!("{}: {error}", directory.display());
    }
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(directory: PathBuf) -> Result<(), String> {
    let started = Instant::now();
    let store = Store::open(&directory).map_err(|error| error.to_string())?;
    println!("create an empty store    {:>10.1} ms", milliseconds(started.elapsed()));
    fill(&store).await?;
    println!("resident, {OBJECTS} objects   {:>10.1} MiB", resident_mib()?);
    println!("writes, 1 writer         {:>10.0} /s", writes(&store, 1).await?);
    println!("writes, {WRITERS} writers       {:>10.0} /s", writes(&store, WRITERS).await?);
    println!("resident after the writes{:>10.1} MiB", resident_mib()?);
    println!("gets, {WRITERS} readers         {:>10.0} /s", gets(&store).await?);
    println!("lists of {OBJECTS}, {WRITERS} readers {:>8.0} /s", lists(&store).await?);
    fan_out(&store).await?;
    drop(store);
    let started = Instant::now();
    Store::open(&directory).map_err(|error| error.to_string())?;
    println!("open with {OBJECTS} objects   {:>10.1} ms", milliseconds(started.elapsed()));
    Ok(())
}

fn resource() -> GroupResource {
    GroupResource::new("", "configmaps")
}

fn key(number: usize) -> Key {
    Key { resource: resource(), namespace: "default".to_owned(), name: format!("object-{number}") }
}

/// A ConfigMap of about 2 KB.
fn value(number: usize) -> Value {
    let data: serde_json::Map<_, _> = (0..30).map(|line| (format!("line-{line}"), json!("x".repeat(50)))).collect();
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "data": data,
        "metadata": {"name": format!("object-{number}"), "namespace": "default", "labels": {"app": "bench"}},
    })
}

async fn fill(store: &Store) -> Result<(), String> {
    for number in 0..OBJECTS {
        let write = Write::Create { key: key(number), value: value(number) };
        store.commit(write).await.map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Updates of objects of one's own, each awaited before the next.
async fn writes(store: &Store, writers: usize) -> Result<f64, String> {
    rate(store, writers, |store, writer, turn| async move {
        let number = (writer + turn * WRITERS) % (OBJECTS - OBJECTS % WRITERS);
        let expected = store.get(&key(number)).map_or(Revision(0), |object| object.revision);
        let write = Write::Update { key: key(number), value: value(number), expected };
        store.commit(write).await.map(drop).map_err(|error| error.to_string())
    })
    .await
}

async fn gets(store: &Store) -> Result<f64, String> {
    rate(store, WRITERS, |store, reader, turn| async move {
        yield_sometimes(turn).await;
        store.get(&key((reader + turn) % OBJECTS)).map(drop).ok_or_else(|| "an object is missing".to_owned())
    })
    .await
}

async fn lists(store: &Store) -> Result<f64, String> {
    rate(store, WRITERS, |store, _, turn| async move {
        yield_sometimes(turn).await;
        let (_, objects) = store.list(&resource(), Some("default"));
        if objects.len() == OBJECTS { Ok(()) } else { Err("objects are missing".to_owned()) }
    })
    .await
}

async fn yield_sometimes(turn: usize) {
    if turn.is_multiple_of(64) {
        tokio::task::yield_now().await;
    }
}

/// How often a second `clients` tasks together do `work`, which is told its client and turn.
async fn rate<W, F>(store: &Store, clients: usize, work: W) -> Result<f64, String>
where
    W: Fn(Store, usize, usize) -> F + Copy + Send + 'static,
    F: Future<Output = Result<(), String>> + Send,
{
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for client in 0..clients {
        let store = store.clone();
        tasks.spawn(async move {
            let mut turns = 0;
            while started.elapsed() < SPAN {
                work(store.clone(), client, turns).await?;
                turns += 1;
            }
            Ok::<_, String>(turns)
        });
    }
    let turns = tasks.join_all().await.into_iter().sum::<Result<usize, String>>()?;
    Ok(turns as f64 / started.elapsed().as_secs_f64())
}

/// From the call of commit until every watch has the event.
async fn fan_out(store: &Store) -> Result<(), String> {
    let mut times = Vec::new();
    for turn in 0..50 {
        let mut watches = tokio::task::JoinSet::new();
        for _ in 0..WATCHES {
            let mut watch = store.watch(&resource(), store.revision()).map_err(|error| format!("{error:?}"))?;
            watches.spawn(async move {
                let seen = watch.next().await.map(|events| events.len());
                (seen, Instant::now())
            });
        }
        tokio::task::yield_now().await;
        let expected = store.get(&key(turn)).map_or(Revision(0), |object| object.revision);
        let started = Instant::now();
        let write = Write::Update { key: key(turn), value: value(turn), expected };
        store.commit(write).await.map_err(|error| error.to_string())?;
        let seen = watches.join_all().await;
        times.extend(seen.iter().map(|(_, when)| milliseconds(*when - started)).reduce(f64::max));
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or_default();
    println!("change to {WATCHES} watches   {:>10.2} ms (median), {:.2} ms (p95)", at(0.5), at(0.95));
    Ok(())
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn resident_mib() -> Result<f64, String> {
    let status = std::fs::read_to_string("/proc/self/status").map_err(|error| error.to_string())?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
    let kib = line.split_whitespace().nth(1).and_then(|number| number.parse::<f64>().ok()).ok_or("no VmRSS")?;
    Ok(kib / 1024.0)
}
