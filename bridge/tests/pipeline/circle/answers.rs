//! What the circle in memory answers.

use super::super::faults::Fault;
use super::super::{anchorer, patient, registry};
use super::{
    CUSTODIAN, FakeCircle, Refuses, broken, custodian_author, enrolled, recovery, refusal, refused,
};
use async_trait::async_trait;
use medsync::source::{
    AnchorReport, ApplicationId, BlobId, ChangePage, Circle, CircleState, Consent, ConsentPage,
    Counts, Cursor, CustodianPins, Device, Enrolled, Entry, EntryBody, EntryKey, EntryKind,
    FullRecord, FullRelease, Granted, GroupId, Head, LogEntry, LogPage, NewRecord, NewRelease,
    PageLimit, Pin, PlacedTicket, Pool, Position, ReceiptPage, Record, RecordPage, Release,
    ReleasePage, Revocation, SharedReceipt, SignedKeyChange, SourceError, SourceResult,
    StageReport, StateHash, Submission, Written, consents_digest,
};
use medsync_protocol::audit::{Body, Pseudonym, Seq};
use medsync_protocol::consent::Opening;
use medsync_protocol::ids::{
    ContextId, ContextKind, MemberId, RecordId, SealKey, Sha256Digest, UnixSeconds,
};
use medsync_protocol::keychange::KeyHistory;
use medsync_protocol::messages::Enrolment;
use medsync_protocol::seal::RecordVersion;
use medsync_protocol::secrets::{Handle, RevocationSecret};
use medsync_protocol::signature::{PublicKey, Signature};

/// A consent with what was reported of it.
fn with_places(reports: &[AnchorReport], consent: &Consent) -> Consent {
    let mut consent = consent.clone();
    for report in reports {
        if report.commitment != consent.commitment {
            continue;
        }
        let submission = match report.stage {
            StageReport::Sealed => None,
            StageReport::Submitted { transaction } => Some(Submission {
                transaction,
                block: None,
            }),
            StageReport::Anchored { transaction, block } => Some(Submission {
                transaction,
                block: Some(block),
            }),
        };
        let known = consent
            .anchors
            .iter_mut()
            .find(|known| known.root == report.root);
        match known {
            Some(known) => known.submission = submission.or(known.submission),
            None => consent.anchors.push(Position {
                key: EntryKey([9; 32]),
                root: report.root,
                proof: report.proof.clone(),
                anchorer: report.anchorer,
                sealed_at: UnixSeconds(0),
                submitted_at: None,
                submission,
            }),
        }
    }
    consent
}

impl FakeCircle {
    /// A write that is the same the second time, with the fault that is planned for it.
    fn write_once(
        &self,
        operation: &'static str,
        kind: EntryKind,
        body: EntryBody,
    ) -> SourceResult<Written> {
        let fault = self.faults.take(operation);
        if fault == Some(Fault::Failed) {
            return Err(broken(operation));
        }
        if self.state.lock().expect("one test").refuses == Refuses::Everything {
            return Err(refusal(operation));
        }
        let existing = self.has(&body);
        if !existing {
            self.add(kind, body);
        }
        match fault {
            None => Ok(Written {
                key: EntryKey([93; 32]),
                existing,
            }),
            Some(_) => Err(broken(operation)),
        }
    }
}

#[async_trait]
impl Circle for FakeCircle {
    fn context(&self) -> ContextId {
        self.context
    }

    async fn state_hash(&self) -> SourceResult<StateHash> {
        self.faults
            .before("state_hash")
            .map_err(|()| broken("state_hash"))?;
        Ok(self.current())
    }

    async fn pin(&self) -> SourceResult<Pin> {
        self.faults.before("pin").map_err(|()| broken("pin"))?;
        let state = self.state.lock().expect("one test");
        Ok(Pin {
            application: ApplicationId([4; 32]),
            bytecode: BlobId([if state.pushed_code { 55 } else { 5 }; 32]),
            group: Some(GroupId([6; 32])),
            members: state.members.clone(),
        })
    }

    async fn circle(&self) -> SourceResult<CircleState> {
        self.faults
            .before("circle")
            .map_err(|()| broken("circle"))?;
        let (devices, changes) = (self.devices(), self.key_changes());
        let state = self.state.lock().expect("one test");
        if state.is_undescribed {
            return Err(SourceError::Refused {
                method: "circle",
                code: "circle_broken".into(),
                reason: "a fault of the test".into(),
            });
        }
        let invitation_key = state.other_invitation_key;
        let enrolments: Vec<Enrolled> = state
            .patient_keys
            .iter()
            .map(|key| enrolled(*key))
            .collect();
        let history = |key: &PublicKey| {
            let signed = changes.iter().filter_map(|said| {
                let (change, signature) = (said.change, &said.signature);
                let by = change.signed_by(self.context, recovery().public_key(), signature)?;
                Some((change, by))
            });
            KeyHistory::of(*key, &signed.collect::<Vec<_>>())
        };
        let histories: Vec<KeyHistory> = state.patient_keys.iter().map(history).collect();
        let frozen = enrolments.len() > 1 || histories.iter().any(|keys| keys.is_frozen);
        Ok(CircleState {
            context: self.context,
            custodian_member: CUSTODIAN,
            custodian: CustodianPins {
                kind: ContextKind::Circle,
                invitation_key: invitation_key.unwrap_or(patient().public_key()),
                anchorer: anchorer(),
                author_key: custodian_author().public_key(),
                seal_key: SealKey([1; 32]),
                registry: registry(),
            },
            patient: enrolments.first().filter(|_| !frozen).cloned(),
            keys: histories.into_iter().flat_map(|keys| keys.keys).collect(),
            enrolments,
            devices,
            frozen,
            ignored: 0,
            counts: Counts::default(),
            consents_digest: consents_digest(state.entries.iter().map(|(change, _)| change)),
            now: UnixSeconds(0),
        })
    }

    async fn add_member(&self, member: MemberId) -> SourceResult<()> {
        let fault = self.faults.take("add_member");
        if fault != Some(Fault::Failed) {
            self.add_to_group(member);
        }
        fault.map_or(Ok(()), |_| Err(broken("add_member")))
    }

    /// An enrolment is known by its key alone.
    async fn enrol(&self, enrolment: &Enrolment, _: &Signature) -> SourceResult<Written> {
        let known = enrolled(enrolment.party_key);
        assert_eq!(*enrolment, known.enrolment, "the test's own");
        let body = EntryBody::Enrolment(known);
        let written = self.write_once("enrol", EntryKind::Enrolment, body.clone());
        if self.has(&body) {
            self.enrol_instead(enrolment.party_key);
        }
        written
    }

    async fn change_key(&self, change: &SignedKeyChange, copies: u32) -> SourceResult<Written> {
        let fault = self.faults.take("change_key");
        if fault == Some(Fault::Failed) {
            return Err(broken("change_key"));
        }
        let body = EntryBody::KeyChange(*change);
        let entry = (EntryKind::KeyChange, body);
        let existing = self.write_copy("change_key", copies, entry)?;
        match fault {
            None => Ok(Written {
                key: EntryKey([94; 32]),
                existing,
            }),
            Some(_) => Err(broken("change_key")),
        }
    }

    async fn admit(&self, device: &Device) -> SourceResult<Written> {
        let refuses = self.state.lock().expect("one test").refuses;
        if refuses == Refuses::AdmissionOf(device.admission.member) {
            return Err(refusal("admit"));
        }
        let body = EntryBody::Device(Box::new(*device));
        self.write_once("admit", EntryKind::Device, body)
    }

    async fn grant(
        &self,
        terms: &[u8],
        opening: &Opening,
        signature: &Signature,
        copies: u32,
    ) -> SourceResult<Granted> {
        let fault = self.faults.take("grant");
        if fault == Some(Fault::Failed) {
            return Err(broken("grant"));
        }
        let granted = self.take_grant(terms, opening, signature, copies)?;
        fault.map_or(Ok(granted), |_| Err(broken("grant")))
    }

    async fn revoke(
        &self,
        secret: &RevocationSecret,
        claim_key: PublicKey,
        copies: u32,
    ) -> SourceResult<Written> {
        let fault = self.faults.take("revoke");
        if fault == Some(Fault::Failed) {
            return Err(broken("revoke"));
        }
        let handle = Handle::of(secret.hash(), claim_key);
        let key = EntryKey(handle.to_bytes());
        let body = EntryBody::Revocation(Revocation {
            key,
            handle,
            secret: secret.clone(),
            claim_key,
            recorded_at: UnixSeconds(12),
        });
        let entry = (EntryKind::Revocation, body);
        let existing = self.write_copy("revoke", copies, entry)?;
        match fault {
            None => Ok(Written { key, existing }),
            Some(_) => Err(broken("revoke")),
        }
    }

    async fn consents(&self, _: Option<&Cursor>, _: PageLimit) -> SourceResult<ConsentPage> {
        self.faults
            .before("consents")
            .map_err(|()| broken("consents"))?;
        let state = self.state.lock().expect("one test");
        if state.refuses == Refuses::Consents {
            return Err(refusal("consents"));
        }
        let consents = state.entries.iter().filter_map(|(_, body)| match body {
            EntryBody::Consent(consent) => Some(with_places(&state.reports, consent)),
            _ => None,
        });
        Ok(ConsentPage {
            consents: consents.collect(),
            ignored: 0,
            next: None,
        })
    }

    async fn put_record(&self, record: &NewRecord) -> SourceResult<Written> {
        let fault = self.faults.take("put_record");
        if fault == Some(Fault::Failed) {
            return Err(broken("put_record"));
        }
        let refuses = self.state.lock().expect("one test").refuses;
        if refuses == Refuses::LaterVersions && record.version.0 > 1 {
            return Err(refusal("put_record"));
        }
        let is_another = |there: &Record| {
            (there.record, there.version) == (record.record, record.version)
                && there.key_for_custodian != record.key_for_custodian
        };
        if self.all_records().iter().any(is_another) {
            return Err(refused("put_record", "record_version"));
        }
        let written = self.take_record(record);
        fault.map_or(Ok(written), |_| Err(broken("put_record")))
    }

    async fn records(
        &self,
        _: Option<&Cursor>,
        _: PageLimit,
        _: Option<&str>,
    ) -> SourceResult<RecordPage> {
        self.faults
            .before("records")
            .map_err(|()| broken("records"))?;
        let state = self.state.lock().expect("one test");
        // As the app: each in its latest version.
        let is_latest = |record: &&Record| {
            let mut all = state.records.iter();
            all.all(|(other, _)| other.record != record.record || other.version <= record.version)
        };
        let records = state.records.iter().map(|(record, _)| record);
        Ok(RecordPage {
            records: records.filter(is_latest).cloned().collect(),
            ignored: 0,
            next: None,
        })
    }

    async fn record(
        &self,
        record: RecordId,
        version: Option<RecordVersion>,
    ) -> SourceResult<FullRecord> {
        self.faults
            .before("record")
            .map_err(|()| broken("record"))?;
        let state = self.state.lock().expect("one test");
        let mut records = state.records.iter();
        let named = records.find(|(found, _)| {
            found.record == record && version.is_none_or(|version| found.version == version)
        });
        let Some((found, payload)) = named else {
            return Err(SourceError::Refused {
                method: "record",
                code: "unknown_record".into(),
                reason: "a record of nobody".into(),
            });
        };
        Ok(FullRecord {
            record: found.clone(),
            // An empty one is one that has not arrived.
            payload: Some(payload.clone()).filter(|payload| !payload.is_empty()),
        })
    }

    async fn put_part(&self, part: &[u8]) -> SourceResult<Written> {
        let fault = self.faults.take("put_part");
        if fault == Some(Fault::Failed) {
            return Err(broken("put_part"));
        }
        let mut state = self.state.lock().expect("one test");
        if state.refuses == Refuses::Parts {
            return Err(SourceError::Refused {
                method: "put_part",
                code: "taken".into(),
                reason: "a fault of the test".into(),
            });
        }
        let digest = Sha256Digest::of(part);
        let existing = state.parts.insert(digest, part.to_vec()).is_some();
        match fault {
            None => Ok(Written {
                key: EntryKey(digest.0),
                existing,
            }),
            Some(_) => Err(broken("put_part")),
        }
    }

    async fn part(&self, digest: Sha256Digest) -> SourceResult<Option<Vec<u8>>> {
        let state = self.state.lock().expect("one test");
        Ok(state.parts.get(&digest).cloned())
    }

    async fn record_anchor(&self, report: &AnchorReport) -> SourceResult<Written> {
        let fault = self.faults.take("record_anchor");
        if fault == Some(Fault::Failed) {
            return Err(broken("record_anchor"));
        }
        let mut state = self.state.lock().expect("one test");
        let is_block = matches!(report.stage, StageReport::Anchored { .. });
        if state.refuses == Refuses::Everything || (is_block && state.refuses == Refuses::Blocks) {
            return Err(refusal("record_anchor"));
        }
        state.check_consent(report.commitment)?;
        state.reports.push(report.clone());
        if fault.is_some() {
            return Err(broken("record_anchor"));
        }
        Ok(Written {
            key: EntryKey([9; 32]),
            existing: false,
        })
    }

    async fn put_pool(&self, pool: &Pool) -> SourceResult<Written> {
        self.write_once(
            "put_pool",
            EntryKind::Pool,
            EntryBody::Pool(Box::new(pool.clone())),
        )
    }

    async fn put_ticket(&self, ticket: &PlacedTicket) -> SourceResult<Written> {
        let body = EntryBody::Ticket(Box::new(ticket.clone()));
        self.write_once("put_ticket", EntryKind::Ticket, body)
    }

    async fn put_receipt(&self, patient: Pseudonym, receipt: &[u8]) -> SourceResult<Written> {
        let fault = self.faults.take("put_receipt");
        if fault == Some(Fault::Failed) {
            return Err(broken("put_receipt"));
        }
        let mut state = self.state.lock().expect("one test");
        if state.refuses == Refuses::ReceiptsOf(patient) {
            return Err(refusal("put_receipt"));
        }
        let key = EntryKey([95; 32]);
        let shared = SharedReceipt {
            key,
            patient,
            receipt: receipt.to_vec(),
        };
        let existing = state.receipts.contains(&shared);
        if !existing {
            state.receipts.push(shared);
        }
        match fault {
            None => Ok(Written { key, existing }),
            Some(_) => Err(broken("put_receipt")),
        }
    }

    async fn receipts(&self, _: Option<&Cursor>, _: PageLimit) -> SourceResult<ReceiptPage> {
        Ok(ReceiptPage {
            receipts: self.shared_receipts(),
            ignored: 0,
            next: None,
        })
    }

    /// As the app: nothing is released that the custodian's log here does not name.
    async fn put_release(&self, release: &NewRelease) -> SourceResult<Written> {
        let fault = self.faults.take("put_release");
        if fault == Some(Fault::Failed) {
            return Err(broken("put_release"));
        }
        let entries = self.log_entries();
        let logged = entries.iter().find(|entry| entry.digest() == release.entry);
        let Some(Body::Released {
            request,
            logged_as: Some(logged_as),
            records,
            ..
        }) = logged.map(|entry| entry.body.clone())
        else {
            return Err(refusal("put_release"));
        };
        assert!(records.contains(&release.what), "what is logged");
        let mut state = self.state.lock().expect("one test");
        let existing = state
            .releases
            .iter()
            .any(|(known, _)| known.entry == release.entry && known.what == release.what);
        let key = EntryKey([state.releases.len() as u8; 32]);
        if !existing {
            let described = Release {
                key,
                entry: release.entry,
                logged_as,
                request,
                circle: release.circle,
                what: release.what,
                resource_type: release.resource_type.clone(),
                payload_sha256: Sha256Digest::of(&release.payload),
                sealed_key: release.sealed_key.clone(),
            };
            state.releases.push((described, release.payload.clone()));
        }
        match fault {
            None => Ok(Written { key, existing }),
            Some(_) => Err(broken("put_release")),
        }
    }

    async fn releases(&self, _: Option<&Cursor>, _: PageLimit) -> SourceResult<ReleasePage> {
        Ok(ReleasePage {
            releases: self.released(),
            ignored: 0,
            next: None,
        })
    }

    async fn release(&self, key: EntryKey) -> SourceResult<FullRelease> {
        let state = self.state.lock().expect("one test");
        let named = state.releases.get(usize::from(key.0[0])).cloned();
        let (release, payload) = named.ok_or_else(|| refused("release", "unknown_entry"))?;
        Ok(FullRelease {
            release,
            payload: Some(payload),
        })
    }

    async fn append_log(&self, entry: &LogEntry) -> SourceResult<Written> {
        let fault = self.faults.take("append_log");
        if fault == Some(Fault::Failed) {
            return Err(broken("append_log"));
        }
        let refuses = self.state.lock().expect("one test").refuses;
        if refuses == Refuses::LogOf(entry.entry.author_key) {
            return Err(refusal("append_log"));
        }
        let existing = self.log_entries().contains(entry);
        if !existing {
            self.add(EntryKind::Log, EntryBody::Log(Box::new(entry.clone())));
        }
        match fault {
            None => Ok(Written {
                key: EntryKey([97; 32]),
                existing,
            }),
            Some(_) => Err(broken("append_log")),
        }
    }

    async fn log(&self, author_key: PublicKey, from: Seq, _: PageLimit) -> SourceResult<LogPage> {
        let of_author = |entry: &LogEntry| entry.entry.author_key == author_key;
        let entries = self.log_entries().into_iter();
        Ok(LogPage {
            entries: entries
                .filter(|entry| of_author(entry) && entry.entry.seq >= from)
                .collect(),
            next: None,
        })
    }

    async fn record_head(&self, head: &Head) -> SourceResult<Written> {
        let fault = self.faults.take("record_head");
        if fault == Some(Fault::Failed) {
            return Err(broken("record_head"));
        }
        if self.state.lock().expect("one test").refuses == Refuses::Everything {
            return Err(refusal("record_head"));
        }
        self.state.lock().expect("one test").check_log(head)?;
        let known = self.heads();
        if !known.contains(head) {
            self.add(EntryKind::Head, EntryBody::Head(Box::new(head.clone())));
        }
        match fault {
            None => Ok(Written {
                key: EntryKey([96; 32]),
                existing: known.contains(head),
            }),
            Some(_) => Err(broken("record_head")),
        }
    }

    async fn changes(&self, _: Option<&Cursor>, _: PageLimit) -> SourceResult<ChangePage> {
        self.faults
            .before("changes")
            .map_err(|()| broken("changes"))?;
        let state = self.state.lock().expect("one test");
        let entries = state.entries.iter().map(|(change, _)| *change).collect();
        Ok(ChangePage {
            entries,
            next: None,
        })
    }

    async fn entry(&self, kind: EntryKind, key: EntryKey) -> SourceResult<Entry> {
        let slow = self.state.lock().expect("one test").slow.clone();
        if let Some((clock, seconds)) = slow {
            clock.advance(seconds);
        }
        self.faults.before("entry").map_err(|()| broken("entry"))?;
        let state = self.state.lock().expect("one test");
        let body = state
            .entries
            .iter()
            .find(|(c, _)| c.key == key)
            .map(|(_, body)| match body {
                EntryBody::Consent(consent) => {
                    EntryBody::Consent(Box::new(with_places(&state.reports, consent)))
                }
                other => other.clone(),
            });
        Ok(Entry {
            kind,
            key,
            owner: None,
            body,
        })
    }
}
