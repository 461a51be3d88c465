//! The log tells the story of each consent and revocation under one name.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use tracing_subscriber::fmt::MakeWriter;

use super::signed::consent;
use super::{fill, run, world};

/// What was logged.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("one test").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Written {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn the_log_tells_the_story_of_each_consent_and_revocation_under_one_name() {
    let written = Written::default();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(written.clone())
        .finish();
    let logging = tracing::subscriber::set_default(subscriber);
    let mut world = world(Vec::new()).await;
    fill(&world.circle);
    run(&mut world).await;
    drop(logging);
    let log = String::from_utf8(written.0.lock().expect("one test").clone()).expect("text");
    let story = |track: String| -> Vec<&str> {
        let mine = format!("track={track}");
        let lines = log
            .lines()
            .filter(|line| line.split(' ').any(|word| word == mine));
        let words = ["consent ", "revocation ", "revoked "];
        let said = lines.filter_map(|line| {
            words
                .iter()
                .find_map(|word| line.find(word).map(|at| &line[at..]))
        });
        said.map(|said| said.split(" track=").next().unwrap_or(said))
            .collect()
    };
    for number in 0..3 {
        let (_, signed) = consent(number);
        assert_eq!(
            story(signed.commitment.to_string()),
            [
                "consent seen",
                "consent sealed",
                "consent submitted",
                "consent anchored"
            ],
            "{log}"
        );
    }
    let (_, revoked) = consent(0);
    assert_eq!(
        story(revoked.secrets.handle().to_string()),
        [
            "revocation seen",
            "revocation submitted",
            "revoked on chain"
        ]
    );
    // What opens a handle is no part of the story.
    assert!(!log.contains(&revoked.secrets.secret.reveal_text()));
}
