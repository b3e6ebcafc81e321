-- Generated from the migrations by `make docs`; write a migration instead of editing it.
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0004');
CREATE TABLE api_keys (
	id TEXT NOT NULL, 
	owner_id TEXT NOT NULL, 
	name TEXT NOT NULL, 
	key_hash BLOB NOT NULL, 
	created_at BIGINT NOT NULL, 
	revoked_at BIGINT, 
	CONSTRAINT api_keys_pk PRIMARY KEY (id), 
	CONSTRAINT api_keys_hash_unique UNIQUE (key_hash)
);
CREATE TABLE chats (
	id INTEGER NOT NULL, 
	uuid TEXT NOT NULL, 
	owner_id TEXT NOT NULL, 
	parent_id TEXT, 
	parent_call_id TEXT, 
	root_id TEXT NOT NULL, 
	status TEXT NOT NULL, 
	archived BOOLEAN NOT NULL, 
	deleted_at BIGINT, 
	revision BIGINT NOT NULL, 
	head_sequence BIGINT NOT NULL, 
	oldest_sequence BIGINT NOT NULL, 
	next_position BIGINT NOT NULL, 
	epoch BIGINT NOT NULL, 
	worker_id TEXT, 
	lease_expires_at BIGINT, 
	journal BIGINT NOT NULL, 
	due_at BIGINT, 
	created_at BIGINT NOT NULL, 
	updated_at BIGINT NOT NULL, 
	content_version SMALLINT NOT NULL, 
	state BLOB NOT NULL, 
	config BLOB NOT NULL, 
	labels BLOB NOT NULL, 
	queue BLOB, 
	CONSTRAINT chats_pk PRIMARY KEY (id), 
	CONSTRAINT chats_uuid_unique UNIQUE (uuid)
);
CREATE TABLE commands (
	"key" BLOB NOT NULL, 
	chat BIGINT NOT NULL, 
	sequence BIGINT NOT NULL, 
	created_at BIGINT NOT NULL, 
	body_hash BLOB, 
	response BLOB, 
	CONSTRAINT commands_pk PRIMARY KEY ("key"), 
	CONSTRAINT commands_chat_fk FOREIGN KEY(chat) REFERENCES chats (id)
);
CREATE TABLE events (
	chat BIGINT NOT NULL, 
	sequence BIGINT NOT NULL, 
	kind SMALLINT NOT NULL, 
	at BIGINT NOT NULL, 
	position BIGINT, 
	content_version SMALLINT NOT NULL, 
	payload BLOB, 
	txid BIGINT NOT NULL, 
	CONSTRAINT events_pk PRIMARY KEY (chat, sequence), 
	CONSTRAINT events_chat_fk FOREIGN KEY(chat) REFERENCES chats (id)
)
 WITHOUT ROWID

;
CREATE TABLE messages (
	chat BIGINT NOT NULL, 
	position BIGINT NOT NULL, 
	uuid TEXT NOT NULL, 
	role TEXT NOT NULL, 
	sequence BIGINT NOT NULL, 
	removed_revision BIGINT, 
	content_version SMALLINT NOT NULL, 
	content BLOB NOT NULL, 
	CONSTRAINT messages_pk PRIMARY KEY (chat, position), 
	CONSTRAINT messages_uuid_unique UNIQUE (chat, uuid), 
	CONSTRAINT messages_chat_fk FOREIGN KEY(chat) REFERENCES chats (id)
);
CREATE TABLE queued_messages (
	chat BIGINT NOT NULL, 
	uuid TEXT NOT NULL, 
	content_version SMALLINT NOT NULL, 
	content BLOB NOT NULL, 
	CONSTRAINT queued_messages_pk PRIMARY KEY (chat, uuid), 
	CONSTRAINT queued_messages_chat_fk FOREIGN KEY(chat) REFERENCES chats (id)
);
CREATE TABLE secrets (
	name TEXT NOT NULL, 
	value BLOB NOT NULL, 
	CONSTRAINT secrets_pk PRIMARY KEY (name)
);
CREATE TABLE tool_journal (
	chat BIGINT NOT NULL, 
	call_id TEXT NOT NULL, 
	started_at BIGINT, 
	content_version SMALLINT NOT NULL, 
	outcome BLOB, 
	CONSTRAINT tool_journal_pk PRIMARY KEY (chat, call_id), 
	CONSTRAINT tool_journal_chat_fk FOREIGN KEY(chat) REFERENCES chats (id)
)
 WITHOUT ROWID

;
CREATE INDEX chats_actions ON chats (owner_id, due_at, id) WHERE status = 'requires_action';
CREATE INDEX chats_deadlines ON chats (due_at) WHERE status = 'requires_action';
CREATE INDEX chats_leases ON chats (lease_expires_at) WHERE worker_id IS NOT NULL;
CREATE INDEX chats_work ON chats (due_at) WHERE worker_id IS NULL AND status IN ('pending', 'interrupting');
CREATE INDEX events_watched ON events (txid, chat, sequence) WHERE kind IN (2, 4, 5, 9, 10, 11);
CREATE INDEX chats_owned ON chats (owner_id, id) WHERE deleted_at IS NULL AND parent_id IS NULL;
CREATE INDEX chats_children ON chats (parent_id, id) WHERE deleted_at IS NULL AND parent_id IS NOT NULL;
