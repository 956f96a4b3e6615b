//! What librdkafka tells and its Rust wrapper does not: headers whose names are not UTF-8, leader epochs, the identity of
//! topics. All of the crate's `unsafe` is here.
//!
//! # Why not the wrapper
//! `rdkafka` panics on a header whose name is not UTF-8, which any producer can send; it gives out no leader epochs; and
//! its admin client cannot describe topics.

use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr;
use std::time::Duration;

use rdkafka::bindings as sys;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::TopicPartitionList;

/// Calls `take` with the name and value of each header of a message, in order.
pub(crate) fn for_each_header<'m>(
    message: &'m BorrowedMessage<'_>,
    mut take: impl FnMut(&'m [u8], Option<&'m [u8]>),
) {
    let mut headers = ptr::null_mut();
    // SAFETY: the message is alive for 'm and owns its headers; this only looks for them.
    let found = unsafe { sys::rd_kafka_message_headers(message.ptr(), &raw mut headers) };
    if found != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        return;
    }
    for index in 0.. {
        let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
        // SAFETY: `headers` was set above and belongs to the message; an index beyond the last is answered with an error.
        let found = unsafe {
            sys::rd_kafka_header_get_all(
                headers,
                index,
                &raw mut name,
                &raw mut value,
                &raw mut size,
            )
        };
        if found != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return;
        }
        // SAFETY: names end with a zero and values are `size` bytes long; both belong to the message, alive for 'm.
        let (name, value) = unsafe {
            let value =
                (!value.is_null()).then(|| std::slice::from_raw_parts(value.cast::<u8>(), size));
            (CStr::from_ptr(name).to_bytes(), value)
        };
        take(name, value);
    }
}

/// The leader epoch a message was written under; -1 if it is not known.
pub(crate) fn leader_epoch(message: &BorrowedMessage<'_>) -> i32 {
    // SAFETY: the message is alive.
    unsafe { sys::rd_kafka_message_leader_epoch(message.ptr()) }
}

/// Says under which leader epoch the event before a position to start from was read, so that a partition that lost its
/// end is noticed.
pub(crate) fn set_leader_epoch(list: &mut TopicPartitionList, index: usize, epoch: i32) {
    assert!(index < list.count(), "an element of the list");
    // SAFETY: the list is borrowed for this call alone, and `elems` has `cnt` elements, of which `index` is one.
    unsafe {
        let element = (*list.ptr()).elems.add(index);
        sys::rd_kafka_topic_partition_set_leader_epoch(element, epoch);
    }
}

/// What is known of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// There is no topic of that name.
    Missing,
    /// It may not be described, or is kept by a broker that gives topics no identity.
    Unknown,
    Known(u128),
}

/// The identities of topics, in order.
pub(crate) fn topic_ids<C: ClientContext>(
    client: &Client<C>,
    topics: &[&str],
    patience: Duration,
) -> Result<Vec<Identity>, KafkaError> {
    let names: Vec<CString> = topics
        .iter()
        .map(|topic| CString::new(*topic).expect("names of topics hold no zero"))
        .collect();
    let event = match describe(client, &names, patience) {
        Err(KafkaError::AdminOp(RDKafkaErrorCode::UnsupportedFeature)) => {
            return Ok(vec![Identity::Unknown; topics.len()]);
        }
        event => event?,
    };
    // SAFETY: `event` holds the result for as long as it lives; lists and texts in it belong to it.
    unsafe {
        let result = sys::rd_kafka_event_DescribeTopics_result(event.0);
        if result.is_null() {
            return Err(KafkaError::AdminOp(RDKafkaErrorCode::Fail));
        }
        let mut count = 0;
        let described = sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        let described: Vec<_> = (0..count).map(|index| *described.add(index)).collect();
        Ok(names
            .iter()
            .map(|name| {
                let of_name = described.iter().find(|topic| {
                    CStr::from_ptr(sys::rd_kafka_TopicDescription_name(**topic)) == name.as_c_str()
                });
                of_name.map_or(Identity::Unknown, |topic| identity(*topic))
            })
            .collect())
    }
}

/// What a description says of its topic.
///
/// # Safety
/// The description must be alive.
unsafe fn identity(topic: *const sys::rd_kafka_TopicDescription_t) -> Identity {
    // SAFETY: error and identity belong to the description.
    unsafe {
        let error = sys::rd_kafka_TopicDescription_error(topic);
        let code = sys::rd_kafka_error_code(error);
        if code == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART {
            return Identity::Missing;
        }
        let id = sys::rd_kafka_TopicDescription_topic_id(topic);
        if code != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR || id.is_null() {
            return Identity::Unknown;
        }
        let high = sys::rd_kafka_Uuid_most_significant_bits(id) as u64;
        let low = sys::rd_kafka_Uuid_least_significant_bits(id) as u64;
        match u128::from(high) << 64 | u128::from(low) {
            0 => Identity::Unknown,
            id => Identity::Known(id),
        }
    }
}

/// An event that is destroyed with this.
struct Event(*mut sys::rd_kafka_event_t);

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: it came from a queue and nobody else has it.
        unsafe { sys::rd_kafka_event_destroy(self.0) }
    }
}

/// A queue that is destroyed with this.
struct Queue(*mut sys::rd_kafka_queue_t);

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: it was made here and nobody else has it.
        unsafe { sys::rd_kafka_queue_destroy(self.0) }
    }
}

/// Asks for descriptions of topics and waits for the answer.
fn describe<C: ClientContext>(
    client: &Client<C>,
    names: &[CString],
    patience: Duration,
) -> Result<Event, KafkaError> {
    // Any broker knows; left alone, librdkafka would wait for the controller.
    let broker = client.fetch_metadata(Some(""), patience)?.orig_broker_id();
    let millis = c_int::try_from(patience.as_millis()).unwrap_or(c_int::MAX);
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    // SAFETY: the client is alive for the whole call. The names are copied into the collection. Options and collection are
    // only read by the request, and destroyed after it was made; the queue lives until the answer has come.
    let event = unsafe {
        let client = client.native_ptr();
        let queue = Queue(sys::rd_kafka_queue_new(client));
        let options = sys::rd_kafka_AdminOptions_new(
            client,
            sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
        );
        sys::rd_kafka_AdminOptions_set_request_timeout(options, millis, ptr::null_mut(), 0);
        sys::rd_kafka_AdminOptions_set_broker(options, broker, ptr::null_mut(), 0);
        let collection =
            sys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        sys::rd_kafka_DescribeTopics(client, collection, options, queue.0);
        sys::rd_kafka_TopicCollection_destroy(collection);
        sys::rd_kafka_AdminOptions_destroy(options);
        // The request has its own time-out; this one is against an answer that never comes.
        sys::rd_kafka_queue_poll(queue.0, millis.saturating_add(1000))
    };
    if event.is_null() {
        return Err(KafkaError::AdminOp(RDKafkaErrorCode::OperationTimedOut));
    }
    let event = Event(event);
    // SAFETY: the event is alive.
    match unsafe { sys::rd_kafka_event_error(event.0) } {
        sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(event),
        error => Err(KafkaError::AdminOp(error.into())),
    }
}
