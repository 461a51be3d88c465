//! Stores that an earlier version laid out.

use std::path::Path;

use medsync::pipeline::ingest::{self, Readings};
use medsync::pipeline::place::LastTree;
use sqlx::migrate::Migrator;
use sqlx::{SqliteConnection, SqlitePool};

use super::restored::found;
use super::{World, check, consent, folder, revocation_of, run, shared, world};

/// The steps of the layout, each with the beginning of its SHA-384: somebody's store has taken it.
const TAKEN: [(i64, &str); 2] = [(1, "429e14c4d5f76ff6"), (2, "9781d15bebd8c008")];

fn steps() -> Migrator {
    sqlx::migrate!("./migrations")
}

#[test]
fn a_step_that_stores_have_taken_is_not_edited() {
    let steps = steps();
    let now: Vec<(i64, String)> = steps
        .iter()
        .map(|step| (step.version, hex::encode(&step.checksum[..8])))
        .collect();
    let taken = TAKEN.map(|(version, checksum)| (version, checksum.to_owned()));
    assert_eq!(now, taken, "what changes the layout is another step");
}

/// Moves a store into a home of an earlier version: its layout, with all rows that it has room for.
async fn as_of(version: i64, from: &Path, home: &Path) {
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(home.join("medsync.db"))
        .create_if_missing(true);
    let pool = SqlitePool::connect_with(options).await.expect("a store");
    let steps = steps();
    let earlier = steps.iter().filter(|step| step.version <= version);
    let earlier = Migrator {
        migrations: earlier.cloned().collect(),
        ..Migrator::DEFAULT
    };
    earlier.run(&pool).await.expect("laid out");
    let mut connection = pool.acquire().await.expect("a connection");
    sqlx::query("ATTACH $1 AS later")
        .bind(from.join("medsync.db").display().to_string())
        .execute(&mut *connection)
        .await
        .expect("read");
    for table in tables(&mut connection).await {
        let copy = format!("INSERT OR REPLACE INTO {table} SELECT * FROM later.{table}");
        let copied = sqlx::query(&copy).execute(&mut *connection).await;
        copied.unwrap_or_else(|error| panic!("{table}: {error}"));
    }
    drop(connection);
    pool.close().await;
}

async fn tables(connection: &mut SqliteConnection) -> Vec<String> {
    let tables = sqlx::query_scalar(
        "SELECT name FROM main.sqlite_master WHERE type = 'table' \
         AND name NOT LIKE '%migrations' AND name NOT LIKE 'sqlite%' ORDER BY name",
    );
    tables.fetch_all(connection).await.expect("tables")
}

/// A hospital with an anchored consent, a revoked one and one that is only sealed.
async fn lived() -> World {
    let mut world = world(Vec::new()).await;
    for number in [0, 1] {
        world.circle.add_consent(consent(number).0);
    }
    run(&mut world).await;
    world.circle.add_revocation(revocation_of(&consent(0).1));
    run(&mut world).await;
    world.circle.add_consent(consent(2).0);
    ingest::ingest_all(&world.pipeline).await.expect("read");
    world
}

#[tokio::test]
async fn a_store_of_each_earlier_version_is_brought_up_to_date_and_loses_nothing() {
    for (version, _) in &TAKEN[..TAKEN.len() - 1] {
        let mut world = lived().await;
        let anchored = world.chain.anchored().len();
        let home = folder();
        world.pipeline.store.clone().close().await;
        as_of(*version, world.home.path(), home.path()).await;
        world.home = home;
        world.pipeline.store = shared::opened(world.home.path()).await.expect("its layout");
        world.pipeline.readings = Readings::default();
        world.pipeline.last_tree = LastTree::default();
        run(&mut world).await;
        check(&world, "a later version");
        assert_eq!(world.chain.anchored().len(), anchored + 1);
        assert_eq!(found(&world).await, []);
        world.circle.add_consent(consent(3).0);
        world.circle.add_revocation(revocation_of(&consent(1).1));
        run(&mut world).await;
        assert_eq!(world.chain.anchored().len(), anchored + 2, "it goes on");
        assert_eq!(world.chain.revoked().len(), 2);
        assert_eq!(found(&world).await, []);
    }
}
