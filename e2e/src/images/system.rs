//! Images of the cluster itself: CoreDNS, and the container that holds a pod's namespaces.

use anyhow::{Context, Result};

use crate::{
    components::Components,
    images::{Contents, Image, ImageSpec, STATIC_FLAGS, target_triple},
    paths, run,
};

/// The program of the pause container: it waits. It needs no signal handling, as the runtime ends it with SIGKILL, and
/// it collects no processes, which only matters to pods that share one process namespace.
const PAUSE: &str = "fn main() { loop { std::thread::park() } }\n";

/// The image of the pause container. Its program is one line, so it is compiled without cargo.
pub async fn build_pause() -> Result<Image> {
    let folder = paths::cache_root()?.join("pause");
    let (source, program) = (folder.join("pause.rs"), folder.join("pause"));
    if std::fs::read_to_string(&source).ok().as_deref() != Some(PAUSE) || !program.is_file() {
        crate::files::create_dir(&folder)?;
        let work = folder.join("work.rs");
        crate::files::write(&work, PAUSE)?;
        let mut rustc = run::command("rustc");
        rustc.args(["--edition=2024", "-C", "opt-level=s", "-C", "panic=abort", "-C", "strip=symbols"]);
        rustc.args(STATIC_FLAGS.split(' ')).args(["--target", &target_triple(), "-o"]).arg(&program).arg(&work);
        // In the checkout, the toolchain is the project's.
        rustc.current_dir(paths::checkout()?);
        run::stdout_of(&mut rustc).await.context("cannot compile the pause program")?;
        std::fs::rename(&work, &source).context("cannot keep the pause program")?;
    }
    ImageSpec::of_program("pause", Contents::new().program("/pause", program), "/pause").build()
}

/// The image of CoreDNS.
pub fn build_coredns(components: &Components) -> Result<Image> {
    let program = components.program("coredns")?;
    // Its folder is named by a digest of all it depends on.
    let digest =
        program.parent().and_then(std::path::Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
    ImageSpec::of_program("coredns", Contents::new().program("/coredns", program), "/coredns").build_for(&digest)
}
