//! The images that pods may name, and the local programs that stand for them.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use node::{Catalog, CatalogError, Image, Origin};
use serde::Serialize;

use crate::cli::{HomeArg, OutputArg};
use crate::output::{self, Format, say};

#[derive(Args)]
pub(crate) struct ImageArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// List the images, in the order in which they are matched
    #[command(after_help = "Examples:\n  isthmus image list\n  isthmus image list -o yaml")]
    List {
        #[command(flatten)]
        home: HomeArg,
        #[command(flatten)]
        output: OutputArg,
    },
    /// Add an image, or replace an added one
    #[command(after_help = "Examples:\n  isthmus image add 'example/web' -- python3 -m http.server 80\n  \
        isthmus image add 'quay.io/me/*' --tag 'v2*' -- ./serve")]
    Add {
        /// The image's name without tag; * and ? match as in a shell, and any registry may stand before it
        image: String,
        /// Match only these tags
        #[arg(long)]
        tag: Option<String>,
        /// A directory that is empty and writable in the container; may be repeated
        #[arg(long, value_name = "DIR")]
        writable: Vec<String>,
        #[command(flatten)]
        home: HomeArg,
        /// The command that stands for the image's entry point
        #[arg(last = true, required = true, value_name = "CMD")]
        command: Vec<String>,
    },
    /// Remove an image that was added
    #[command(after_help = "Examples:\n  isthmus image remove 'example/web'")]
    Remove {
        /// The name under which it was added
        image: String,
        #[command(flatten)]
        home: HomeArg,
    },
}

#[derive(Serialize)]
struct Entry<'a> {
    origin: Origin,
    #[serde(flatten)]
    image: &'a Image,
}

/// `isthmus image …`; a running federation notices the change by itself.
pub(crate) fn image(args: ImageArgs) -> anyhow::Result<ExitCode> {
    match args.action {
        Action::List { home, output } => list(&Catalog::load(home.resolve()?.path())?, output.output)?,
        Action::Add { image, tag, writable, home, command } => {
            let home = home.resolve()?;
            home.create()?;
            let mut catalog = Catalog::load(home.path())?;
            catalog.add(Image { tag, writable, ..Image::new(image.clone(), command) })?;
            catalog.save()?;
            say(format_args!("image {image:?} added"));
        }
        Action::Remove { image, home } => {
            let mut catalog = Catalog::load(home.resolve()?.path())?;
            if let Err(error @ CatalogError::NotFound(_)) = catalog.remove(&image) {
                say(error);
                return Ok(output::verdict(false));
            }
            catalog.save()?;
            say(format_args!("image {image:?} removed"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(catalog: &Catalog, format: Format) -> anyhow::Result<()> {
    let entries: Vec<Entry> = catalog.entries().map(|(image, origin)| Entry { origin, image }).collect();
    if format != Format::Table {
        return output::document(format, &entries);
    }
    let row = |e: &Entry| {
        let command: Vec<&str> = e.image.entrypoint.iter().chain(&e.image.cmd).map(String::as_str).collect();
        let origin = if e.origin == Origin::User { "user" } else { "builtin" };
        vec![
            e.image.pattern.clone(),
            e.image.tag.clone().unwrap_or_else(|| "*".to_owned()),
            origin.to_owned(),
            command.join(" "),
        ]
    };
    output::table(&["IMAGE", "TAG", "ORIGIN", "COMMAND"], entries.iter().map(row))
}
