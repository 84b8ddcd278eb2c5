//! What the command line tells about itself elsewhere: completions of shells, and manual pages.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use clap::CommandFactory;
use serde_json::json;

use crate::cli::Cli;
use crate::output;

/// Prints the completions of a shell.
pub(crate) fn completions(shell: clap_complete::Shell) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "jangbu", &mut script);
    Ok(std::io::stdout().lock().write_all(&script)?)
}

/// Writes a page for each command: `jangbu.1`, `jangbu-topic-create.1`, ...
pub(crate) fn manual(dir: &Path, json: bool) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    clap_mangen::generate_to(Cli::command(), dir)
        .with_context(|| format!("writing pages into {}", dir.display()))?;
    if json {
        return Ok(output::json_line(&json!({ "written": dir }))?);
    }
    Ok(output::line(&format!("the pages are in {}", dir.display()))?)
}
