//! Recovery: going on where the log ended, in a new segment unless it was closed in order. `open` says which rules hold.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Segment;
use super::fold::Fold;
use super::frame::{
    BLOCK_BYTES, Body, FrameKind, Header, Outline, Place, Prefix, SCHEMA_VERSION, body_sum,
    decode_body,
};
use super::manifest::Epoch;
use super::open::Opening;
use super::roll::{Active, NewSegment};
use super::scan::{LastSegment, segment_files};
use super::segment::{self, Frame, FrameScan, SEGMENT_HEADER_BYTES, SegmentEnd};
use super::sources::{SourceState, Sources};
use crate::error::LogError;
use crate::storage::{StorageFile, read_exact};
use crate::threads::Mutex;
use crate::{LogId, Timestamp};

impl Opening {
    /// Goes on in the last segment if it was closed in order, else recovers into a new one.
    pub(super) fn take_over(
        &mut self,
        fold: &mut Fold,
        segments: &mut Vec<Arc<Segment>>,
        (file, path, found): (Arc<dyn StorageFile>, PathBuf, LastSegment),
    ) -> Result<(Active, Timestamp), LogError> {
        let entry = *self
            .manifest
            .contents
            .segments
            .last()
            .expect("there is a last segment");
        let segment = |end: SegmentEnd| {
            Arc::new(Segment {
                number: entry.number,
                first_offset: entry.first_offset,
                epoch: found.epoch,
                path: path.clone(),
                end: Mutex::new((end.offset, end.position)),
            })
        };
        let log = self.manifest.contents.log;
        let nothing_cut = found.torn_end == found.sound.position;
        // A log that was not padded goes on in a segment of its own.
        let apart = !self.config.pad_groups || found.sound.position.is_multiple_of(BLOCK_BYTES);
        if found.closed && entry.end.is_some() && nothing_cut && apart {
            let segment = segment(found.sound);
            // Also where a snapshot goes as far: another may have been taken there before calls without events.
            fold.segment(log, &segment, &*file, true)?;
            self.reopen_last()?;
            let active = Active {
                segment,
                zeroed: found.sound.position,
                position: found.sound.position,
                last_header_crc: found.sound.last_header_crc,
                file,
            };
            return Ok((active, found.append_time));
        }
        let proven = segment(found.proven);
        let lasting = if found.proven.offset >= fold.state.next {
            fold.segment(log, &proven, &*file, true)?;
            fold.state.sources.lasting()
        } else {
            // The snapshot knows of unproven frames, which come behind the state frame.
            sources_at_end(log, &proven, &*file)?.lasting()
        };
        if !nothing_cut {
            self.quarantine_bytes(&*file, &path, found.sound.position, found.torn_end)?;
        }
        let epoch = (!nothing_cut).then(|| Epoch {
            number: found.epoch + 1,
            start: found.sound.offset,
        });
        let unproven = Unproven {
            file: &*file,
            path: &path,
            segment: entry.number,
            found,
        };
        let active = self.begin(
            &lasting,
            found.proven,
            found.append_time,
            Some((unproven, epoch)),
        )?;
        if found.sound.offset >= fold.state.next {
            fold.segment(log, &active.segment, &*active.file, false)?;
        }
        file.set_len(found.proven.position)
            .map_err(LogError::io("cutting", &path))?;
        segments.push(proven);
        Ok((active, found.append_time))
    }

    /// Takes back, before anything is written to it, what closing recorded of the last segment.
    pub(super) fn reopen_last(&mut self) -> Result<(), LogError> {
        let last = self.manifest.contents.segments.last_mut();
        match last.and_then(|entry| entry.end.take()) {
            Some(_) => self.manifest.write(),
            None => Ok(()),
        }
    }

    /// Starts a segment behind `predecessor`, where sources stood so, with the unproven frames of the one before.
    pub(super) fn begin(
        &mut self,
        lasting: &[SourceState],
        predecessor: SegmentEnd,
        append_time: Timestamp,
        unproven: Option<(Unproven<'_>, Option<Epoch>)>,
    ) -> Result<Active, LogError> {
        let storage = &*self.parts.storage;
        let spare = self.directory.join("spare.tmp");
        if storage
            .exists(&spare)
            .map_err(LogError::io("looking for", &spare))?
        {
            storage
                .remove(&spare)
                .map_err(LogError::io("removing", &spare))?;
        }
        let file = storage
            .create(&spare)
            .map_err(LogError::io("creating", &spare))?;
        let contents = &mut self.manifest.contents;
        let number = contents.segments.last().map_or(0, |entry| entry.number + 1);
        let new_epoch = unproven.as_ref().and_then(|(_, epoch)| *epoch);
        let old_end = unproven.as_ref().map(|(unproven, _)| unproven.found.proven);
        let epoch = new_epoch.map_or(contents.epoch(), |epoch| epoch.number);
        let start = NewSegment {
            log: contents.log,
            directory: &self.directory,
            storage,
            file,
            number,
            epoch,
            predecessor,
            append_time,
            fill_block: self.config.pad_groups,
        };
        let mut active = start.begin(lasting)?;
        if let Some((unproven, _)) = &unproven {
            unproven.copy_to(contents.log, &mut active, self.config.pad_groups)?;
        }
        contents.epochs.extend(new_epoch);
        start.publish(&mut self.manifest, old_end)?;
        Ok(active)
    }

    /// Files that look like segments and are not in the manifest: a roll or a recovery did not get as far as that.
    pub(super) fn set_orphans_aside(&self) -> Result<(), LogError> {
        let contents = &self.manifest.contents;
        let known: Vec<PathBuf> = contents
            .segments
            .iter()
            .map(|entry| segment::path(&self.directory, entry.first_offset, entry.number))
            .collect();
        let storage = &*self.parts.storage;
        for path in segment_files(storage, &self.directory)? {
            if !known.contains(&path) {
                let name = path.file_name().unwrap_or_default().to_owned();
                let target = self.quarantine_path(&name.to_string_lossy())?;
                storage
                    .rename(&path, &target)
                    .map_err(LogError::io("renaming", &path))?;
                storage
                    .sync_dir(&self.directory)
                    .map_err(LogError::io("syncing", &self.directory))?;
                tracing::warn!(from = %path.display(), to = %target.display(), "set aside an unfinished segment");
            }
        }
        Ok(())
    }

    /// A free name in the quarantine.
    fn quarantine_path(&self, name: &str) -> Result<PathBuf, LogError> {
        let storage = &*self.parts.storage;
        let directory = self.directory.join("quarantine");
        storage
            .create_dir_all(&directory)
            .map_err(LogError::io("creating", &directory))?;
        let mut number = 0;
        loop {
            let path = directory.join(format!("{name}.{number}"));
            if !storage
                .exists(&path)
                .map_err(LogError::io("looking for", &path))?
            {
                return Ok(path);
            }
            number += 1;
        }
    }

    fn quarantine_bytes(
        &self,
        file: &dyn StorageFile,
        path: &Path,
        from: u64,
        to: u64,
    ) -> Result<(), LogError> {
        let storage = &*self.parts.storage;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let target = self.quarantine_path(&format!("{name}@{from}"))?;
        let copy = storage
            .create(&target)
            .map_err(LogError::io("creating", &target))?;
        let mut bytes = vec![0; (to - from) as usize];
        read_exact(file, &mut bytes, from).map_err(LogError::io("reading", path))?;
        copy.write_at(&[IoSlice::new(&bytes)], 0)
            .map_err(LogError::io("writing", &target))?;
        copy.sync_data().map_err(LogError::io("syncing", &target))?;
        let directory = self.directory.join("quarantine");
        storage
            .sync_dir(&directory)
            .map_err(LogError::io("syncing", &directory))?;
        tracing::warn!(
            segment = %path.display(), from, to, copy = %target.display(),
            "cut off a torn write, which was never acknowledged"
        );
        Ok(())
    }
}

/// Where producers and partitions stood at a segment's end: as its first frame says, and moved by what follows.
fn sources_at_end(
    log: LogId,
    segment: &Segment,
    file: &dyn StorageFile,
) -> Result<Sources, LogError> {
    let (start, end) = (SEGMENT_HEADER_BYTES as u64, segment.end().1);
    let mut scan = FrameScan::new(file, &segment.path, (log, segment.number), start, end);
    let mut sources = Sources::default();
    while let Some(Frame {
        header,
        body,
        position,
        ..
    }) = scan.next()?
    {
        let unreadable = |_| LogError::Corrupt {
            path: segment.path.clone(),
            position,
            offset: header.first_offset,
            reason: "a frame's body cannot be read, though its checksum is right".into(),
        };
        let body = if header.count > 0 {
            Outline::read(&header, segment.epoch, body).map(|outline| Body::Rows(outline.batch))
        } else {
            decode_body(&header, segment.epoch, body)
        };
        sources.follow(body.map_err(unreadable)?);
    }
    Ok(sources)
}

/// Frames that are sound and not proven to be synced.
pub(super) struct Unproven<'a> {
    file: &'a dyn StorageFile,
    path: &'a Path,
    segment: u64,
    found: LastSegment,
}

impl Unproven<'_> {
    /// Writes the frames into a new segment, behind them one without events that fills the block if asked to, and syncs
    /// it.
    fn copy_to(&self, log: LogId, active: &mut Active, fill_block: bool) -> Result<(), LogError> {
        let (from, to) = (self.found.proven.position, self.found.sound.position);
        let mut scan = FrameScan::new(self.file, self.path, (log, self.segment), from, to);
        let mut end = active.segment.first_offset;
        let mut append_time = None;
        while let Some(frame) = scan.next()? {
            if frame.header.is_closing() || frame.header.is_state() {
                continue;
            }
            write_copy(log, active, frame.header, frame.body)?;
            end = frame.header.end();
            append_time = Some(frame.header.append_time);
        }
        if let Some(append_time) = append_time.filter(|_| fill_block) {
            let mut prefix = Prefix::of_rows(&[], &[]);
            prefix.fill_block(active.position);
            let (body_len, body_crc) = body_sum(&prefix, None);
            let header = Header {
                body_len,
                body_crc,
                first_offset: end,
                count: 0,
                codec: 0,
                flags: FrameKind::Rows.flags(),
                schema: SCHEMA_VERSION,
                append_time,
                durable_end: 0,
                prev_header_crc: 0,
            };
            write_copy(log, active, header, prefix.bytes())?;
        }
        active
            .file
            .sync_data()
            .map_err(LogError::io("syncing", &active.segment.path))?;
        active.segment.set_end(end, active.position);
        active.zeroed = active.position;
        Ok(())
    }
}

/// Writes a frame behind what is there.
fn write_copy(
    log: LogId,
    active: &mut Active,
    header: Header,
    body: &[u8],
) -> Result<(), LogError> {
    let header = Header {
        durable_end: 0,
        prev_header_crc: active.last_header_crc,
        ..header
    };
    let place = Place {
        log,
        segment: active.segment.number,
        position: active.position,
    };
    let (bytes, crc) = header.encode(place);
    active
        .file
        .write_at(&[IoSlice::new(&bytes), IoSlice::new(body)], active.position)
        .map_err(LogError::io("writing", &active.segment.path))?;
    active.position += header.frame_bytes();
    active.last_header_crc = crc;
    Ok(())
}
