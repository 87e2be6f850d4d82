//! The published definitions of the built-in kinds, compiled on demand.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use super::{Schema, compile};

/// Adds a type and all that it refers to, to a generator's definitions.
pub(crate) type Generate = fn(&mut SchemaGenerator);

/// A named definition, such as `io.k8s.api.core.v1.PodSpec`.
pub(crate) struct Definition {
    name: String,
    schema: OnceLock<Schema>,
}

impl std::fmt::Debug for Definition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Definitions may refer to themselves, so only the name is shown.
        f.debug_tuple("Definition").field(&self.name).finish()
    }
}

/// Every definition referred to so far. They are constants of the build, so all registries of a process share them.
static POOL: LazyLock<Mutex<Pool>> = LazyLock::new(|| Mutex::new(Pool::default()));

#[derive(Default)]
pub(super) struct Pool {
    definitions: HashMap<String, Arc<Definition>>,
    generators: HashMap<String, Generate>,
}

impl Definition {
    /// A definition that `generate` produces on first use, together with those it refers to.
    pub(super) fn root(name: &str, generate: Generate) -> Arc<Definition> {
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        pool.generators.insert(name.to_owned(), generate);
        pool.named(name)
    }

    pub(super) fn schema(&self) -> &Schema {
        if let Some(schema) = self.schema.get() {
            return schema;
        }
        POOL.lock().unwrap_or_else(PoisonError::into_inner).compile(&self.name);
        self.schema.get().expect("a definition is compiled together with the kind that refers to it")
    }
}

impl Pool {
    /// The definition of this name, which may still have to be compiled.
    pub(super) fn named(&mut self, name: &str) -> Arc<Definition> {
        if let Some(known) = self.definitions.get(name) {
            return Arc::clone(known);
        }
        let definition = Arc::new(Definition { name: name.to_owned(), schema: OnceLock::new() });
        self.definitions.insert(name.to_owned(), Arc::clone(&definition));
        definition
    }

    /// Compiles the definition `root` and all that it refers to. Another thread may have done so while this one
    /// waited for the pool.
    fn compile(&mut self, root: &str) {
        let Some(generate) = self.generators.get(root).copied() else { return };
        if self.named(root).schema.get().is_some() {
            return;
        }
        for (name, source) in definitions_of([generate]) {
            let definition = self.named(&name);
            if definition.schema.get().is_none() {
                let schema = compile::definition(&name, &source, self);
                definition.schema.set(schema).expect("only the pool's owner compiles");
            }
        }
    }
}

/// The definitions that these generators produce, by name, as JSON schemas with references to `#/$defs/…`.
pub(crate) fn definitions_of(generators: impl IntoIterator<Item = Generate>) -> Map<String, Value> {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    for generate in generators {
        generate(&mut generator);
    }
    generator.take_definitions(false)
}
