//! `GET` on the remoting port: metrics and health, for whoever asks in HTTP/1.1. One request per
//! connection, of bounded size and time.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode, body::Incoming, header::CONTENT_TYPE, server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, join},
    net::tcp::{ReadHalf, WriteHalf},
};

/// Most bytes of a request's line and headers: hyper's own minimum.
const REQUEST_BYTES_MAX: usize = 8 * 1024;

/// Answers plain HTTP requests.
pub trait HttpHandler: Send + Sync + 'static {
    /// Answers a `GET` or `HEAD` of `path`, which is without its query. Must not block.
    fn get(&self, path: &str) -> HttpResponse;
}

/// An answer in HTTP.
#[derive(Debug, Clone)]
pub struct HttpResponse {
    /// Status code; what is none becomes 500.
    pub status: u16,
    /// Media type of the body.
    pub content_type: &'static str,
    /// What is shown.
    pub body: Bytes,
}

/// Answers the one request that begins with `first` and goes on in `read`. What goes wrong is
/// only for the debug log: the peer is a browser or a scraper and sees it.
pub(super) async fn answer(
    first: Bytes,
    read: ReadHalf<'_>,
    write: WriteHalf<'_>,
    handler: Arc<dyn HttpHandler>,
    within: Duration,
) -> Result<(), String> {
    let stream = TokioIo::new(join((&*first).chain(read), write));
    let service = service_fn(|request: Request<Incoming>| {
        let response = respond(&*handler, request.uri().path());
        async move { Ok::<_, Infallible>(response) }
    });
    let exchange = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(REQUEST_BYTES_MAX)
        .serve_connection(stream, service);
    match tokio::time::timeout(within, exchange).await {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(_) => Err(format!("not done within {within:?}")),
    }
}

fn respond(handler: &dyn HttpHandler, path: &str) -> Response<Full<Bytes>> {
    let HttpResponse { status, content_type, body } = handler.get(path);
    let mut response = Response::new(Full::new(body));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
    response
}
