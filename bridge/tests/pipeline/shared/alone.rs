//! What there is of PostgreSQL alone: moving there and back, its restarts, its leases.

use std::path::Path;
use std::time::Duration;

use medsync::config::Role;
use medsync::daemon::{self, Ended};
use medsync::lease::{Lease, Only};
use medsync::store::{PostgresUrl, Store, StoreError};
use medsync_protocol::ids::UnixSeconds;
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor, SqlitePool};
use tokio::sync::watch;

use super::super::circle::CONTEXT;
use super::super::writes::party::party;
use super::super::{START, consent, fill, revocation_of, run, secret, world};
use super::server::Server;
use super::{is_inside, server, url_of};

/// Every row of a file, as text, but for what is of the file itself and of its moves.
async fn rows(file: &Path) -> Vec<String> {
    let pool = SqlitePool::connect(&file.display().to_string()).await;
    let pool = pool.expect("a store");
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '%migrations' \
         AND name <> 'leases' ORDER BY name",
    )
    .fetch_all(&pool)
    .await
    .expect("tables");
    let mut all = Vec::new();
    for table in tables {
        let columns: Vec<String> =
            sqlx::query_scalar("SELECT 'quote(' || name || ')' FROM pragma_table_info($1)")
                .bind(&table)
                .fetch_all(&pool)
                .await
                .expect("columns");
        let columns = columns.join(" || ',' || ");
        let but = match table.as_str() {
            "facts" => "WHERE name NOT IN ('left_by', 'entered_by')",
            _ => "",
        };
        let rows = format!("SELECT '{table}: ' || {columns} FROM {table} {but} ORDER BY 1");
        let rows: Vec<String> = sqlx::query_scalar(&rows)
            .fetch_all(&pool)
            .await
            .expect("rows");
        all.extend(rows);
    }
    pool.close().await;
    all
}

/// Another database, in which nothing is.
async fn empty(server: &Server, name: &str) -> PostgresUrl {
    let connection = PgConnection::connect(&server.url("postgres")).await;
    let mut connection = connection.expect("it is there");
    let create = format!("CREATE DATABASE {name}");
    connection.execute(create.as_str()).await.expect("created");
    url_of(server, name)
}

#[tokio::test]
async fn on_postgresql_a_store_that_moved_and_was_backed_up_has_every_row() {
    if is_inside() {
        return;
    }
    let server = server().await;
    let mut world = world(Vec::new()).await;
    fill(&world.circle);
    run(&mut world).await;
    let file = world.home.path().join("medsync.db");
    let url = empty(&server, "moved").await;
    let store = &world.pipeline.store;
    store.move_to_shared(&url).await.expect("moved");
    let moved = Store::open_shared(&url, &secret(), None)
        .await
        .expect("a store");
    assert!(moved.is_shared() && !store.is_shared());
    assert_eq!(moved.damage().await.expect("looked"), Vec::<String>::new());
    let backup = world.home.path().join("backup.db");
    moved.copy_to(&backup).await.expect("copied");
    let before = rows(&file).await;
    assert!(before.len() > 10, "there is something");
    // Whoever takes the backup takes the file alone.
    let taken = world.home.path().join("taken.db");
    std::fs::copy(&backup, &taken).expect("copied");
    assert_eq!(rows(&taken).await, before);
    // It goes on there.
    world.pipeline.store = moved;
    world.circle.add_revocation(revocation_of(&consent(1).1));
    for _ in 0..6 {
        super::super::round(&world).await;
    }
    assert_eq!(world.chain.revoked().len(), 2);
    let erased = world
        .pipeline
        .store
        .erase_records(CONTEXT, None, UnixSeconds(START));
    assert_eq!(erased.await.expect("scrubbed"), 0);
}

#[tokio::test]
async fn on_postgresql_a_move_that_was_cut_off_is_completed_and_loses_nothing() {
    if is_inside() {
        return;
    }
    let server = server().await;
    let mut world = world(Vec::new()).await;
    fill(&world.circle);
    run(&mut world).await;
    let home = world.home.path();
    let file = home.join("medsync.db");
    let store = &world.pipeline.store;
    let before = rows(&file).await;
    // Where something else is, it does not go, and goes on where it is.
    let other = url_of(&server, super::LAID_OUT);
    let refused = store.move_to_shared(&other).await;
    assert!(matches!(refused, Err(StoreError::NotEmpty)), "{refused:?}");
    store.state_fact("still", "here").await.expect("written");
    Store::open(home, &secret()).await.expect("goes on");
    // It dies while it waits for its turn to write there.
    let url = empty(&server, "cut_off").await;
    let turn = PgConnection::connect(&server.url("cut_off")).await;
    let mut turn = turn.expect("it is there");
    let take = "SELECT pg_advisory_lock(7021633841104520243)";
    turn.execute(take).await.expect("taken");
    let moving = {
        let (store, url) = (store.clone(), url.clone());
        tokio::spawn(async move { store.move_to_shared(&url).await })
    };
    while let Ok(still) = Store::open(home, &secret()).await {
        still.close().await;
        assert!(!moving.is_finished(), "it waits");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    moving.abort();
    assert!(moving.await.is_err(), "it died");
    let left = Store::open(home, &secret()).await;
    assert!(matches!(left, Err(StoreError::Left)), "{left:?}");
    let late = store.state_fact("late", "lost?").await;
    let late = late
        .expect_err("nothing comes into it any more")
        .to_string();
    assert!(late.contains("moved to PostgreSQL"), "{late}");
    turn.close().await.expect("given back");
    store.move_to_shared(&url).await.expect("completed");
    store
        .move_to_shared(&url)
        .await
        .expect("it is there already");
    let moved = Store::open_shared(&url, &secret(), None).await;
    let moved = moved.expect("a store");
    assert_eq!(
        moved.fact("still").await.expect("read").as_deref(),
        Some("here")
    );
    let back = home.join("back.db");
    moved.copy_to(&back).await.expect("copied");
    let mut now = rows(&back).await;
    assert_eq!(now, rows(&file).await);
    now.retain(|row| !row.contains("'still'"));
    assert_eq!(now, before);
}

#[tokio::test]
async fn on_postgresql_a_store_that_was_closed_leaves_nobody_connected() {
    if is_inside() {
        return;
    }
    let server = server().await;
    let url = url_of(&server, super::LAID_OUT);
    let others = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'medsync'";
    for _ in 0..20 {
        let store = Store::open_shared(&url, &secret(), None).await;
        store.expect("a store").close().await;
        // Nothing is left to be done by what runs this test: it stands still meanwhile.
        let is_empty = std::thread::scope(|scope| {
            let look = scope.spawn(|| {
                let runtime = tokio::runtime::Runtime::new().expect("a runtime");
                runtime.block_on(async {
                    let server = PgConnection::connect(&server.url("postgres")).await;
                    let mut server = server.expect("it is there");
                    // The server's own end of a connection takes a moment.
                    for _ in 0..100 {
                        let there = sqlx::query_scalar::<_, i64>(others);
                        if there.fetch_one(&mut server).await.expect("read") == 0 {
                            return true;
                        }
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                    false
                })
            });
            look.join().expect("looked")
        });
        assert!(is_empty, "somebody is connected");
    }
}

#[tokio::test]
async fn on_postgresql_a_restart_of_the_database_needs_none_of_medsync() {
    if is_inside() {
        return;
    }
    let server = server().await;
    let url = url_of(&server, super::LAID_OUT);
    let store = Store::open_shared(&url, &secret(), None)
        .await
        .expect("a store");
    store.state_fact("before", "said").await.expect("written");
    server.restart();
    let mut failed = 0;
    while let Err(error) = store.state_fact("after", "said \0").await {
        failed += 1;
        assert!(failed < 20, "{error}");
    }
    let before = store.fact("before").await.expect("read");
    assert_eq!(before.as_deref(), Some("said"));
    // It has no zeros in its texts.
    let after = store.fact("after").await.expect("read");
    assert_eq!(after.as_deref(), Some("said \u{fffd}"));
}

#[tokio::test]
async fn on_postgresql_a_database_that_orders_texts_by_a_language_is_refused() {
    if is_inside() {
        return;
    }
    let server = server().await;
    let mut connection = PgConnection::connect(&server.url("postgres"))
        .await
        .expect("it is there");
    let create = "CREATE DATABASE english TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en'";
    connection.execute(create).await.expect("created");
    let refused = Store::open_shared(&url_of(&server, "english"), &secret(), None).await;
    assert!(
        matches!(refused, Err(StoreError::OtherTexts)),
        "{refused:?}"
    );
}

#[tokio::test]
async fn on_postgresql_one_leads_and_another_takes_over() {
    if is_inside() {
        return;
    }
    let server = server().await;
    let url = url_of(&server, super::LAID_OUT);
    let open = async || {
        Store::open_shared(&url, &secret(), None)
            .await
            .expect("a store")
    };
    let (first, second) = (open().await, open().await);
    let mut leads = Lease::new(&first, Only::Daemon);
    let led = leads.won().await;
    led.state_fact("led by", "first").await.expect("it leads");
    let mut waits = Lease::new(&second, Only::Daemon);
    let (refused, ()) = tokio::join!(waits.won_or_taken(), async {
        let kept = tokio::time::timeout(Duration::from_secs(4), leads.kept()).await;
        assert!(kept.is_err(), "it is kept");
    });
    assert!(matches!(refused, Err(StoreError::Taken(_))), "{refused:?}");
    // It falls silent.
    let late = tokio::time::timeout(Duration::from_secs(20), waits.won()).await;
    let late = late.expect("it is taken over");
    late.state_fact("led by", "second").await.expect("it leads");
    let refused = led.state_fact("led by", "first").await;
    assert!(
        matches!(refused, Err(StoreError::NotLeader { .. })),
        "{refused:?}"
    );
    waits.release().await;
    let mut third = Lease::new(&first, Only::Daemon);
    let third = third.won_or_taken().await.expect("it is free");
    third.state_fact("led by", "third").await.expect("it leads");
    let by = first.fact("led by").await.expect("read");
    assert_eq!(by.as_deref(), Some("third"));
}

#[tokio::test]
async fn a_leader_that_reaches_no_chain_makes_room_and_a_daemon_alone_goes_on_trying() {
    let world = world(Vec::new()).await;
    let mut party = party(&world, Role::Patient);
    party.config.chain.rpc = vec!["http://127.0.0.1:1/".parse().expect("an address")];
    let (_stop, stopped) = watch::channel(false);
    let patience = Duration::from_millis(500);
    let ended = daemon::run(party.clone(), stopped.clone(), Some(patience)).await;
    assert_eq!(ended.expect("a home"), Ended::Hindered);
    let alone = daemon::run(party, stopped, None);
    let ended = tokio::time::timeout(Duration::from_secs(3), alone).await;
    assert!(ended.is_err(), "it goes on");
}
