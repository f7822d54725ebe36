//! The image of the example app: Node, the shared libraries that it links, the JavaScript SDKs and the app's scripts.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::{
    clients::{JavaScript, is_script},
    files,
    images::{Contents, Entry, Image, ImageSpec},
    run,
};

/// The image with every script in `/app`; a pod names one as its argument.
pub async fn build_node_app(javascript: &JavaScript) -> Result<Image> {
    let mut contents = Contents::new().program("/usr/local/bin/node", javascript.node.clone());
    let libraries = shared_libraries(&javascript.node).await?;
    for library in &libraries {
        contents = contents.program(&library.display().to_string(), library.clone());
    }
    contents = contents.tree("/app", &javascript.scripts, &is_script)?;
    contents = contents.tree("/app/node_modules", &javascript.modules, &is_needed)?;
    contents = contents.with("/etc/passwd", Entry::Text("app:x:65532:65532:app:/app:/sbin/nologin\n".into()));
    let mut spec = ImageSpec::of_program("example-app", contents, "/usr/local/bin/node");
    spec.working_dir = "/app";
    spec.build_for(&digest(javascript, &libraries)?)
}

/// The libraries change with the system's updates, everything else with the lock file and the scripts.
fn digest(javascript: &JavaScript, libraries: &[PathBuf]) -> Result<String> {
    let mut parts = vec![javascript.digest.clone()];
    for library in libraries {
        let file = library.metadata().with_context(|| format!("cannot read {}", library.display()))?;
        parts.push(format!("{} {} {:?}", library.display(), file.len(), file.modified().ok()));
    }
    Ok(files::digest(parts.iter().map(String::as_bytes)))
}

/// SDKs come with types and source maps that nobody reads at run time; Node has its own place.
fn is_needed(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let unneeded = [".map", ".ts", ".mts", ".cts", ".md"];
    !unneeded.iter().any(|end| name.ends_with(end)) && name != ".bin" && !name.starts_with("node-linux-")
}

async fn shared_libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let ldd = run::stdout_of(run::command("ldd").arg(program)).await.context("cannot list Node's shared libraries")?;
    Ok(parse_ldd(&ldd))
}

/// Paths of `ldd`'s lines: `name => /path (address)` and `/path (address)`; the kernel's own library has no path.
fn parse_ldd(output: &str) -> Vec<PathBuf> {
    let path = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from);
    output.lines().filter_map(path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_every_form_of_line() {
        let output = "\tlinux-vdso.so.1 (0x00007ffd)\n\
            \tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let expected = ["/lib/x86_64-linux-gnu/libm.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
        assert_eq!(parse_ldd(output), expected);
    }

    #[test]
    fn what_is_read_at_run_time_is_kept() {
        assert!(is_needed(Path::new("openai/index.mjs")) && !is_needed(Path::new("openai/index.d.ts")));
    }
}
