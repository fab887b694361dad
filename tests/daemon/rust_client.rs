//! The crate `hearth-client` with the real service.

use std::fs::{self, File};

use hearth_client::{Client, Event, Events, FailureKind, FailureName, Options};
use hearth_proto::bus::JOBS;
use tokio::runtime::Runtime;
use zbus::Fd;

use crate::harness::{Daemon, until};

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

#[test]
fn a_program_talks_in_a_session_and_reads_every_property() {
    let daemon = Daemon::real();
    runtime().block_on(async {
        let client = Client::at(&daemon.bus_address()).await.unwrap();
        let path = client.service.open_session(&Options::new()).await.unwrap();
        let session = client.session(path).await.unwrap();
        let pipe = session
            .open_stream("What is the capital of Italy?", &Options::new())
            .await
            .unwrap();
        let (mut events, mut said, mut ended) = (Events::new(pipe).unwrap(), String::new(), false);
        while let Some(line) = events.next().await.unwrap() {
            match line.event {
                Event::Token { text, .. } => said.push_str(&text),
                Event::Finished { reason, .. } => ended = reason == "stop",
                _ => {}
            }
        }
        assert!(said.contains("Rome") && ended, "{said}");
        assert_eq!(session.turns().await.unwrap(), 1);
        assert!(session.prompt_tokens().await.unwrap() > 0);

        let service = &client.service;
        assert_eq!(service.state().await.unwrap(), "ready");
        assert!(service.context_size().await.unwrap() > 0);
        assert!(service.tokens_per_second().await.unwrap() > 0.0);
        let model = client.model("hearth-demo-q8_0").await.unwrap();
        assert!(model.last_use().await.unwrap() > 0 && model.context_size().await.is_ok());
        let cookie = service
            .keep_loaded("a test", &Options::new())
            .await
            .unwrap();
        let holds = model.holds().await.unwrap();
        assert_eq!(holds[0]["reason"].downcast_ref::<&str>(), Ok("a test"));
        service.release_keep_loaded(cookie).await.unwrap();
        let again = service.release_keep_loaded(cookie).await.unwrap_err();
        let name = FailureName::of(&again);
        assert_eq!(name, Some(FailureName::Known(FailureKind::InvalidArgs)));
        // What has no value is an error, and absent from the whole.
        service.unload_models(&Options::new()).await.unwrap();
        assert!(service.context_size().await.is_err());
        assert!(
            !client
                .properties()
                .await
                .unwrap()
                .contains_key("ContextSize")
        );
    });
}

#[test]
fn vectors_come_in_a_file() {
    use std::io::Read as _;
    let daemon = Daemon::fake("");
    runtime().block_on(async {
        let client = Client::at(&daemon.bus_address()).await.unwrap();
        let (texts, none) = (["a", "b"], Options::new());
        let (file, dimensions) = client.service.embed_to_file(&texts, &none).await.unwrap();
        let mut bytes = Vec::new();
        let file = std::os::fd::OwnedFd::from(file);
        File::from(file).read_to_end(&mut bytes).unwrap();
        let inline = client.service.embed(&texts, &none).await.unwrap();
        assert_eq!(inline[0].len(), dimensions as usize);
        let numbers = bytes
            .chunks_exact(4)
            .map(|number| f64::from(f32::from_le_bytes(number.try_into().unwrap())));
        assert!(numbers.eq(inline.into_iter().flatten()));
    });
}

#[test]
fn a_cancelled_import_leaves_nothing_behind() {
    let daemon = Daemon::fake("[dbus]\nmodel_admins = \"group\"\n");
    let large = daemon.dir.path().join("large.gguf");
    File::create(&large).unwrap().set_len(16 << 30).unwrap();
    let imported = daemon.dir.path().join("imported");
    let incomplete = || {
        let entries = fs::read_dir(&imported).into_iter().flatten();
        entries.count()
    };
    runtime().block_on(async {
        let client = Client::at(&daemon.bus_address()).await.unwrap();
        let file = File::open(&large).unwrap();
        let none = Options::new();
        let started = client.store.start_import("large", Fd::from(&file), &none);
        let path = started.await.unwrap();
        let job = client
            .job(path.as_str().strip_prefix(JOBS).unwrap())
            .await
            .unwrap();
        assert_eq!(job.operation().await.unwrap(), "import-model");
        while !job.progress().await.is_ok_and(|share| share > 0.0) {
            tokio::task::yield_now().await;
        }
        job.cancel().await.unwrap();
        let failure = job.get_result().await.unwrap_err();
        let name = FailureName::of(&failure);
        assert_eq!(name, Some(FailureName::Known(FailureKind::Cancelled)));
    });
    until("the incomplete copy is deleted", || incomplete() == 0);
}
