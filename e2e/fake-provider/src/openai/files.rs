//! Uploads: files that belong to an account, and transcriptions. Contents are not kept, sizes are.

use http::{Method, StatusCode};

use super::{Context, error};
use crate::{
    json::{Json, list, object},
    multipart::{self, Part},
    reply::{self, Reply},
    request::{Call, random_id},
    shared::Stored,
};

fn field<'a>(parts: &'a [Part<'a>], name: &str) -> Option<&'a Part<'a>> {
    parts.iter().find(|p| p.name == name)
}

fn value(parts: &[Part<'_>], name: &str) -> Option<String> {
    field(parts, name).map(|p| String::from_utf8_lossy(p.data).into_owned())
}

/// `GET` and `POST /v1/files`
pub(super) fn collection(call: &Call, context: &Context<'_>) -> Result<Reply, Reply> {
    if call.method == Method::POST {
        return upload(call, context);
    }
    let files = context.shared.kept_all(&context.account, "file-");
    let files = files.iter().map(|f| Json::raw(&String::from_utf8_lossy(&f.object)));
    Ok(reply::ok(&object! { "object": "list", "data": list(files), "has_more": false }, true))
}

fn upload(call: &Call, context: &Context<'_>) -> Result<Reply, Reply> {
    let parts = multipart::parts(&call.headers, &call.body).ok_or_else(error::not_multipart)?;
    let purpose = value(&parts, "purpose").ok_or_else(|| error::missing("purpose"))?;
    let file = field(&parts, "file").ok_or_else(|| error::missing("file"))?;
    let id = random_id("file-", 22);
    let object = object! {
        "object": "file", "id": id, "purpose": purpose, "filename": file.filename, "bytes": file.data.len(),
        "created_at": reply::now(), "expires_at": (), "status": "processed", "status_details": (),
    };
    let bytes = object.as_str().as_bytes().to_vec();
    context.shared.keep(Stored { id, account: context.account.clone(), object: bytes });
    Ok(reply::ok(&object, true))
}

/// `GET` and `DELETE /v1/files/{id}`
pub(super) fn one(call: &Call, context: &Context<'_>, id: &str) -> Result<Reply, Reply> {
    let file = context.shared.kept(&context.account, id).ok_or_else(|| error::unknown_file(id))?;
    if call.method == Method::DELETE {
        context.shared.forget(&context.account, id);
        return Ok(reply::ok(&object! { "object": "file", "deleted": true, "id": id }, true));
    }
    Ok(Reply::json(StatusCode::OK, file.object))
}

/// `POST /v1/audio/transcriptions`: the text says how long the file was.
pub(super) fn transcription(call: &Call, context: &Context<'_>) -> Result<Reply, Reply> {
    let parts = multipart::parts(&call.headers, &call.body).ok_or_else(error::not_multipart)?;
    context.model(value(&parts, "model").as_deref())?;
    let file = field(&parts, "file").ok_or_else(|| error::missing("file"))?;
    let length = format!("{} of {} bytes", file.filename.as_deref().unwrap_or("a file"), file.data.len());
    let text = context.script.text.clone().unwrap_or(length);
    Ok(reply::ok(&object! { "text": text }, true))
}
