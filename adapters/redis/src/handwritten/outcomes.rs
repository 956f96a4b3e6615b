//! Reading predictions, and feedback in hashes of its own.

use redis::Cmd;

use super::fetch::{Pace, Reply, ask, contents};
use super::key::{Id, Key};
use super::names::VersionName;
use super::order::{Keys, Turn};
use super::predictions::{self, Prediction};
use super::reading::{Reading, disk, fields};
use super::values;
use crate::connection::{command, text};
use crate::error::RedisError;

impl Reading<'_> {
    pub(super) async fn predictions(&mut self, keys: &mut Keys) -> Result<(), RedisError> {
        while let Some(some) = keys.some(3, self.pace.items).map_err(disk)? {
            let found = contents(&some, &mut self.pace, &mut self.server).await?;
            let mut read = Vec::with_capacity(some.len());
            for (key, content) in some.iter().zip(found) {
                let Key::Prediction(rest) = Key::of(self.rest(key)) else {
                    continue;
                };
                let prediction = match fields(key, content) {
                    Ok(None) => continue,
                    Ok(Some(fields)) => {
                        Prediction::read(&rest, fields, &self.source.id_prefix, &self.names)
                    }
                    Err(bad) => Err(bad),
                };
                match prediction {
                    Ok(prediction) => read.push((key, rest, prediction)),
                    Err(bad) => self.bad(&bad),
                }
            }
            self.times_by_index(&mut read).await?;
            for (key, rest, prediction) in read {
                let time = prediction.time;
                self.report.without_time += u64::from(time.is_none());
                self.report.without_payload += u64::from(prediction.omitted);
                let (event, feedback) = prediction.finish();
                self.put_later(Turn::Prediction, time, &rest, key, event)?;
                if let Some((event, time)) = feedback {
                    self.put_later(Turn::Feedback, time, &rest, key, event)?;
                }
            }
            self.taker.passed(some.len() as u64);
        }
        Ok(())
    }

    /// Times of predictions whose hashes have none: the score in the index of their version, if that is a time.
    async fn times_by_index(
        &mut self,
        read: &mut [(&String, Id, Prediction)],
    ) -> Result<(), RedisError> {
        let asked = |(_, rest, prediction): &&mut (&String, Id, Prediction)| -> Option<Cmd> {
            let version = prediction.version.id.as_ref()?;
            let mut score = command(
                "ZSCORE",
                &format!("{}:idx:predictions:{version}", self.source.prefix),
            );
            score.arg(rest.to_string());
            prediction.time.is_none().then_some(score)
        };
        let mut timeless: Vec<_> = read
            .iter_mut()
            .filter(|each| asked(each).is_some())
            .collect();
        let commands: Vec<Cmd> = timeless.iter().filter_map(asked).collect();
        let replies = ask(commands, &mut self.server).await?;
        for ((_, _, prediction), reply) in timeless.iter_mut().zip(replies) {
            if let Reply::Value(value) = reply {
                prediction.time = text(&value).and_then(values::time);
            }
        }
        Ok(())
    }

    pub(super) async fn feedback(&mut self, keys: &mut Keys) -> Result<(), RedisError> {
        while let Some(some) = keys.some(4, self.pace.items).map_err(disk)? {
            let found = contents(&some, &mut self.pace, &mut self.server).await?;
            for (key, content) in some.iter().zip(found) {
                let Key::Feedback(rest) = Key::of(self.rest(key)) else {
                    continue;
                };
                let event = match fields(key, content) {
                    Ok(None) => continue,
                    Ok(Some(fields)) => {
                        let version = self
                            .version_of(&predictions::predicted(&rest, &fields))
                            .await?;
                        predictions::feedback(
                            &rest,
                            fields,
                            version,
                            &self.source.id_prefix,
                            &self.names,
                        )
                    }
                    Err(bad) => Err(bad),
                };
                match event {
                    Ok((event, time)) => {
                        self.report.without_time += u64::from(time.is_none());
                        self.put_later(Turn::Feedback, time, &rest, key, event)?;
                    }
                    Err(bad) => self.bad(&bad),
                }
            }
            self.taker.passed(some.len() as u64);
        }
        Ok(())
    }

    /// The version that made a prediction, if that is there and says so.
    async fn version_of(&mut self, prediction: &str) -> Result<Option<VersionName>, RedisError> {
        let key = [self.key(&format!("prediction:{prediction}"))];
        let content = contents(&key, &mut Pace::new(), &mut self.server)
            .await?
            .pop();
        let fields = content.map(|content| fields(&key[0], content));
        // What is wrong with it was said.
        let Some(Ok(Some(mut fields))) = fields else {
            return Ok(None);
        };
        Ok(self.names.version(&mut fields).unwrap_or_default())
    }
}
