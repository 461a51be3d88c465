//! The whole story on real parts, while its processes are killed.

use medsync_tests::story::{Part, STEPS, Story};

/// Which process is killed after which step: each of them once, at a moment at which it has work.
const KILLS: [(usize, Part); 8] = [
    // A circle is open: the hospital's node restarts before the patient's joins.
    (6, Part::HospitalNode),
    // Enrolled: the patient's node restarts before the records come.
    (8, Part::PatientNode),
    // Granted: the hospital's daemon dies with the consent on its way.
    (10, Part::HospitalDaemon),
    (10, Part::PatientDaemon),
    // Anchored: the chain itself goes away and comes back.
    (12, Part::Devnet),
    // The exchange is open: the researcher's node restarts before it asks.
    (15, Part::ResearcherNode),
    // Released: the researcher's daemon dies before the order to erase comes.
    (18, Part::ResearcherDaemon),
    // Revoked.
    (21, Part::HospitalDaemon),
];

const PARTS: [Part; 7] = [
    Part::HospitalNode,
    Part::PatientNode,
    Part::ResearcherNode,
    Part::HospitalDaemon,
    Part::PatientDaemon,
    Part::ResearcherDaemon,
    Part::Devnet,
];

#[test]
fn the_story_ends_though_every_process_is_killed_once() {
    play(&KILLS);
    if std::env::var_os("MEDSYNC_FULL").is_some() {
        // Each of them after every step; one that does not run yet is left alone.
        for part in PARTS {
            let kills: Vec<_> = (1..=STEPS).map(|step| (step, part)).collect();
            play(&kills);
        }
    }
}

fn play(kills: &[(usize, Part)]) {
    let mut story = Story::new().expect("a folder");
    let played = story.play(&mut |step, story| {
        for (_, part) in kills.iter().filter(|(after, _)| *after == step) {
            println!("      killing {part:?}");
            story.kill_and_restart(*part)?;
        }
        Ok(())
    });
    if let Err(error) = played {
        story.print_logs();
        panic!("{error:#}");
    }
    assert_eq!(story.report.steps.len(), STEPS);
    assert!(story.daemons_run().expect("an answer"));
}
