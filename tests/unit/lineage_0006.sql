BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0006');
CREATE TABLE alias_history (
	id INTEGER NOT NULL, 
	model INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	version INTEGER, 
	at DATETIME NOT NULL, 
	actor TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	CONSTRAINT pk_alias_history PRIMARY KEY (id), 
	CONSTRAINT fk_alias_history_model FOREIGN KEY(model) REFERENCES models (id), 
	CONSTRAINT fk_alias_history_version FOREIGN KEY(version) REFERENCES versions (id)
);
INSERT INTO "alias_history" VALUES(1,1,'candidate',1,'2026-11-20 17:18:48.697909','mia','registered');
INSERT INTO "alias_history" VALUES(2,1,'champion',1,'2026-11-20 17:18:48.773033','airflow','');
INSERT INTO "alias_history" VALUES(3,1,'challenger',3,'2026-11-29 04:59:52.241090','mia','registered');
CREATE TABLE aliases (
	model INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	version INTEGER NOT NULL, 
	CONSTRAINT pk_aliases PRIMARY KEY (model, name), 
	CONSTRAINT fk_aliases_model FOREIGN KEY(model) REFERENCES models (id), 
	CONSTRAINT fk_aliases_version FOREIGN KEY(version) REFERENCES versions (id)
);
INSERT INTO "aliases" VALUES(1,'candidate',1);
INSERT INTO "aliases" VALUES(1,'champion',1);
INSERT INTO "aliases" VALUES(1,'challenger',3);
CREATE TABLE architectures (
	version INTEGER NOT NULL, 
	parameters BIGINT NOT NULL, 
	layers JSON NOT NULL, 
	tensors JSON NOT NULL, 
	CONSTRAINT pk_architectures PRIMARY KEY (version), 
	CONSTRAINT fk_architectures_version FOREIGN KEY(version) REFERENCES versions (id)
);
INSERT INTO "architectures" VALUES(3,24,'[{"name": "dense", "type": "Linear"}]','[{"name": "dense.weight", "shape": [4, 6], "datatype": "FP32", "count": 24, "norm": 1.5}]');
CREATE TABLE asset_alias_history (
	id INTEGER NOT NULL, 
	asset INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	asset_version INTEGER, 
	at DATETIME NOT NULL, 
	actor TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	CONSTRAINT pk_asset_alias_history PRIMARY KEY (id), 
	CONSTRAINT fk_asset_alias_history_asset FOREIGN KEY(asset) REFERENCES assets (id), 
	CONSTRAINT fk_asset_alias_history_asset_version FOREIGN KEY(asset_version) REFERENCES asset_versions (id)
);
INSERT INTO "asset_alias_history" VALUES(1,2,'checked',2,'2026-11-29 04:59:52.430631','mia','uploaded');
CREATE TABLE asset_aliases (
	asset INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	asset_version INTEGER NOT NULL, 
	CONSTRAINT pk_asset_aliases PRIMARY KEY (asset, name), 
	CONSTRAINT fk_asset_aliases_asset FOREIGN KEY(asset) REFERENCES assets (id), 
	CONSTRAINT fk_asset_aliases_asset_version FOREIGN KEY(asset_version) REFERENCES asset_versions (id)
);
INSERT INTO "asset_aliases" VALUES(2,'checked',2);
CREATE TABLE asset_files (
	asset_version INTEGER NOT NULL, 
	path TEXT NOT NULL, 
	digest TEXT NOT NULL, 
	uri TEXT NOT NULL, 
	CONSTRAINT pk_asset_files PRIMARY KEY (asset_version, path), 
	CONSTRAINT fk_asset_files_asset_version FOREIGN KEY(asset_version) REFERENCES asset_versions (id), 
	CONSTRAINT fk_asset_files_digest FOREIGN KEY(digest) REFERENCES files (digest)
);
INSERT INTO "asset_files" VALUES(1,'model.zip','sha256:d22180782af2120c1012c98b884effb4a2f24fb38d59a7381e9495014a1545dd','file:///artifacts/a.zip');
INSERT INTO "asset_files" VALUES(2,'labels.csv','sha256:d772ebb4590212c65cc31888ee55c3a893d866d8479f84a4c0ca36918a3fa75f','file:///labels');
CREATE TABLE asset_references (
	asset_version INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	target INTEGER NOT NULL, 
	CONSTRAINT pk_asset_references PRIMARY KEY (asset_version, name), 
	CONSTRAINT fk_asset_references_asset_version FOREIGN KEY(asset_version) REFERENCES asset_versions (id), 
	CONSTRAINT fk_asset_references_target FOREIGN KEY(target) REFERENCES asset_versions (id)
);
CREATE TABLE asset_versions (
	id INTEGER NOT NULL, 
	asset INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	digest TEXT NOT NULL, 
	size BIGINT NOT NULL, 
	message TEXT NOT NULL, 
	created_at DATETIME NOT NULL, 
	created_by TEXT NOT NULL, 
	version INTEGER, 
	CONSTRAINT pk_asset_versions PRIMARY KEY (id), 
	CONSTRAINT ck_asset_versions_number CHECK (number >= 1), 
	CONSTRAINT fk_asset_versions_asset FOREIGN KEY(asset) REFERENCES assets (id), 
	CONSTRAINT fk_asset_versions_version FOREIGN KEY(version) REFERENCES versions (id), 
	CONSTRAINT uq_asset_versions_asset_number UNIQUE (asset, number)
);
INSERT INTO "asset_versions" VALUES(1,1,1,'sha256:60e7240e310f8d27087b9a1195536d52e78af94a0363a5db1316839f3e315ddd',4321,'digits version 3','2026-11-29 04:59:52.266025','mia',3);
INSERT INTO "asset_versions" VALUES(2,2,1,'sha256:2ad8f99645b5a95a905b5b3dcc7db5df7e5e271001bdbeff52e729f2c7f80c26',9,'','2026-11-29 04:59:52.389551','mia',NULL);
CREATE TABLE assets (
	id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	description TEXT NOT NULL, 
	latest INTEGER NOT NULL, 
	created_at DATETIME NOT NULL, 
	created_by TEXT NOT NULL, 
	CONSTRAINT pk_assets PRIMARY KEY (id), 
	CONSTRAINT uq_assets_name UNIQUE (name)
);
INSERT INTO "assets" VALUES(1,'digits','',1,'2026-11-29 04:59:52.264355','mia');
INSERT INTO "assets" VALUES(2,'labels','',1,'2026-11-29 04:59:52.387613','mia');
CREATE TABLE datasets (
	id INTEGER NOT NULL, 
	run INTEGER NOT NULL, 
	stage TEXT NOT NULL, 
	name TEXT NOT NULL, 
	uri TEXT NOT NULL, 
	digest TEXT, 
	version TEXT, 
	rows BIGINT, schema JSON, statistics JSON, 
	CONSTRAINT pk_datasets PRIMARY KEY (id), 
	CONSTRAINT fk_datasets_run FOREIGN KEY(run) REFERENCES runs (id)
);
INSERT INTO "datasets" VALUES(1,3,'coarse','images','/data/images','sha256:21b2eed1e328a2c62fe4c17d51188bdea73450f29956dc5c8c95429313ddd72c','7',60000,'{"pixel": "float", "label": "int"}','{"pixel": {"mean": 0.5, "missing": 0}}');
INSERT INTO "datasets" VALUES(2,3,'coarse','sales','warehouse://sales',NULL,NULL,NULL,'null','null');
CREATE TABLE deployments (
	endpoint TEXT NOT NULL, 
	version INTEGER NOT NULL, 
	weight INTEGER NOT NULL, 
	since DATETIME NOT NULL, 
	CONSTRAINT pk_deployments PRIMARY KEY (endpoint, version), 
	CONSTRAINT ck_deployments_weight CHECK (weight BETWEEN 0 AND 100), 
	CONSTRAINT fk_deployments_version FOREIGN KEY(version) REFERENCES versions (id)
);
INSERT INTO "deployments" VALUES('digits',1,90,'2026-11-20 17:18:48.836367');
INSERT INTO "deployments" VALUES('digits',2,10,'2026-11-20 17:18:48.836367');
CREATE TABLE environments (
	id INTEGER NOT NULL, 
	digest TEXT NOT NULL, 
	python TEXT NOT NULL, 
	platform TEXT NOT NULL, 
	image TEXT, 
	packages JSON NOT NULL, 
	CONSTRAINT pk_environments PRIMARY KEY (id), 
	CONSTRAINT uq_environments_digest UNIQUE (digest)
);
INSERT INTO "environments" VALUES(1,'sha256:ba5285161ba6eed0085fb13784ce5c92f70ebc268b94fd66aa1d68a32884204d','3.11.7','Linux x86_64','registry/train@sha256:0000000000000000000000000000000000000000000000000000000000000000','{"numpy": "2.3.1", "torch": "2.13.0"}');
CREATE TABLE evaluation_metrics (
	evaluation INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	value DOUBLE, 
	flag TEXT, 
	CONSTRAINT pk_evaluation_metrics PRIMARY KEY (evaluation, name), 
	CONSTRAINT fk_evaluation_metrics_evaluation FOREIGN KEY(evaluation) REFERENCES evaluations (id)
);
INSERT INTO "evaluation_metrics" VALUES(1,'loss',0.5,NULL);
INSERT INTO "evaluation_metrics" VALUES(2,'loss',NULL,'NaN');
INSERT INTO "evaluation_metrics" VALUES(3,'loss',0.125,NULL);
INSERT INTO "evaluation_metrics" VALUES(3,'accuracy',0.97,NULL);
INSERT INTO "evaluation_metrics" VALUES(4,'loss',0.5,NULL);
INSERT INTO "evaluation_metrics" VALUES(5,'loss',NULL,'NaN');
INSERT INTO "evaluation_metrics" VALUES(6,'loss',0.125,NULL);
INSERT INTO "evaluation_metrics" VALUES(6,'accuracy',0.97,NULL);
INSERT INTO "evaluation_metrics" VALUES(7,'loss',0.5,NULL);
INSERT INTO "evaluation_metrics" VALUES(8,'loss',NULL,'NaN');
INSERT INTO "evaluation_metrics" VALUES(9,'loss',0.125,NULL);
INSERT INTO "evaluation_metrics" VALUES(9,'accuracy',0.97,NULL);
CREATE TABLE evaluations (
	id INTEGER NOT NULL, 
	run INTEGER NOT NULL, 
	checkpoint TEXT NOT NULL, 
	digest TEXT, 
	stage TEXT, 
	step BIGINT, 
	note TEXT NOT NULL, seconds DOUBLE, startup_seconds DOUBLE, 
	CONSTRAINT pk_evaluations PRIMARY KEY (id), 
	CONSTRAINT fk_evaluations_run FOREIGN KEY(run) REFERENCES runs (id), 
	CONSTRAINT uq_evaluations_run_checkpoint UNIQUE (run, checkpoint)
);
INSERT INTO "evaluations" VALUES(1,1,'coarse-1','sha256:d0f631ca1ddba8db3bcfcb9e057cdc98d0379f1bee00e75a545147a27dadd982','coarse',10,'',NULL,NULL);
INSERT INTO "evaluations" VALUES(2,1,'fine-2',NULL,'fine',20,'diverged',NULL,NULL);
INSERT INTO "evaluations" VALUES(3,1,'fine-3',NULL,'fine',30,'',NULL,NULL);
INSERT INTO "evaluations" VALUES(4,2,'coarse-1','sha256:d0f631ca1ddba8db3bcfcb9e057cdc98d0379f1bee00e75a545147a27dadd982','coarse',10,'',NULL,NULL);
INSERT INTO "evaluations" VALUES(5,2,'fine-2',NULL,'fine',20,'diverged',NULL,NULL);
INSERT INTO "evaluations" VALUES(6,2,'fine-3',NULL,'fine',30,'',NULL,NULL);
INSERT INTO "evaluations" VALUES(7,3,'coarse-1','sha256:d0f631ca1ddba8db3bcfcb9e057cdc98d0379f1bee00e75a545147a27dadd982','coarse',10,'',NULL,NULL);
INSERT INTO "evaluations" VALUES(8,3,'fine-2',NULL,'fine',20,'diverged',NULL,NULL);
INSERT INTO "evaluations" VALUES(9,3,'fine-3',NULL,'fine',30,'',NULL,NULL);
CREATE TABLE events (
	id INTEGER NOT NULL, 
	at DATETIME NOT NULL, 
	actor TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	model INTEGER, 
	version INTEGER, 
	run_id TEXT, 
	detail JSON NOT NULL, 
	CONSTRAINT pk_events PRIMARY KEY (id), 
	CONSTRAINT fk_events_model FOREIGN KEY(model) REFERENCES models (id), 
	CONSTRAINT fk_events_version FOREIGN KEY(version) REFERENCES versions (id)
);
INSERT INTO "events" VALUES(1,'2026-11-20 17:18:48.694964','mia','version-registered',1,1,'manual__1','{"number": 1, "archive": "sha256:0c3ab42d8bf783773c98f334be8a92d202000c54df2231d8bc6b679f0d6d2887", "checkpoint": "fine-3"}');
INSERT INTO "events" VALUES(2,'2026-11-20 17:18:48.697909','mia','alias-set',1,1,'manual__1','{"alias": "candidate", "reason": "registered"}');
INSERT INTO "events" VALUES(3,'2026-11-20 17:18:48.741992','mia','version-registered',1,2,'manual__2','{"number": 2, "archive": "sha256:9dd17c4a180ac1cc8e8b500bdcdacecced58d45e588b4d0d95037b7dfc4a70d0", "checkpoint": "fine-3"}');
INSERT INTO "events" VALUES(4,'2026-11-20 17:18:48.773033','airflow','alias-set',1,1,NULL,'{"alias": "champion", "reason": ""}');
INSERT INTO "events" VALUES(5,'2026-11-20 17:18:48.859897','airflow','weights-set',1,NULL,NULL,'{"endpoint": "digits", "weights": {"1": 90, "2": 10}}');
INSERT INTO "events" VALUES(6,'2026-11-20 17:18:48.943039','airflow','image-built',1,1,NULL,'{"builder": "oci", "digest": "sha256:6105d6cc76af400325e94d588ce511be5bfdbb73b437dc51eca43917d7a43e3d", "reference": "registry/digits"}');
INSERT INTO "events" VALUES(7,'2026-11-29 04:59:52.239967','mia','version-registered',1,3,'manual__3','{"number": 3, "archive": "sha256:d22180782af2120c1012c98b884effb4a2f24fb38d59a7381e9495014a1545dd", "checkpoint": "fine-3"}');
INSERT INTO "events" VALUES(8,'2026-11-29 04:59:52.241090','mia','alias-set',1,3,'manual__3','{"alias": "challenger", "reason": "registered"}');
INSERT INTO "events" VALUES(9,'2026-11-29 04:59:52.415384','mia','asset-uploaded',NULL,NULL,NULL,'{"asset": "labels", "number": 1, "files": 1, "size": 9}');
INSERT INTO "events" VALUES(10,'2026-11-29 04:59:52.430631','mia','asset-alias-set',NULL,NULL,NULL,'{"asset": "labels", "number": 1, "alias": "checked", "reason": "uploaded"}');
CREATE TABLE failures (
	id INTEGER NOT NULL, 
	model TEXT NOT NULL, 
	dag_id TEXT NOT NULL, 
	run_id TEXT NOT NULL, 
	"key" TEXT NOT NULL, 
	attempt INTEGER NOT NULL, 
	stage TEXT, 
	job TEXT, 
	kind TEXT, 
	cause TEXT NOT NULL, 
	advice TEXT NOT NULL, 
	rule TEXT NOT NULL, 
	last_lines JSON NOT NULL, 
	tried_again BOOLEAN NOT NULL, 
	mended_by INTEGER, 
	at DATETIME NOT NULL, 
	CONSTRAINT pk_failures PRIMARY KEY (id), 
	CONSTRAINT uq_failures_dag_id_run_id_key_attempt UNIQUE (dag_id, run_id, "key", attempt)
);
INSERT INTO "failures" VALUES(1,'digits','digits','manual__3','train.fine',1,NULL,NULL,'out_of_memory','it ran out of memory','','fail','["Killed"]',1,2,'2026-11-21 09:00:00.000000');
CREATE TABLE figures (
	id INTEGER NOT NULL, 
	run INTEGER NOT NULL, 
	stage TEXT, 
	checkpoint TEXT, 
	name TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	data JSON NOT NULL, 
	CONSTRAINT pk_figures PRIMARY KEY (id), 
	CONSTRAINT fk_figures_run FOREIGN KEY(run) REFERENCES runs (id)
);
INSERT INTO "figures" VALUES(1,3,NULL,'fine-3','roc','roc','{"x": [0.0, 0.5, 1.0], "y": [0.0, 0.9, 1.0]}');
CREATE TABLE files (
	digest TEXT NOT NULL, 
	size BIGINT NOT NULL, 
	CONSTRAINT pk_files PRIMARY KEY (digest)
);
INSERT INTO "files" VALUES('sha256:87e93f89f2be0db364e8be052f79f389e6c2da239831922e24513288af522a43',100);
INSERT INTO "files" VALUES('sha256:e1241fb009ce68e0cec5c19baedeff497e82ab3ea58223f77466983f36a81bb4',10);
INSERT INTO "files" VALUES('sha256:edd414c95acea1c273ab149255053a81db68153fdcdbf10a54a7fd84907d6f70',10);
INSERT INTO "files" VALUES('sha256:149b89bcbc5d976301f37add77cca598e2049a3166f41c398341f205c9f19720',10);
INSERT INTO "files" VALUES('sha256:d22180782af2120c1012c98b884effb4a2f24fb38d59a7381e9495014a1545dd',4321);
INSERT INTO "files" VALUES('sha256:d772ebb4590212c65cc31888ee55c3a893d866d8479f84a4c0ca36918a3fa75f',9);
CREATE TABLE images (
	id INTEGER NOT NULL, 
	version INTEGER NOT NULL, 
	builder TEXT NOT NULL, 
	digest TEXT NOT NULL, 
	reference TEXT NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_images PRIMARY KEY (id), 
	CONSTRAINT fk_images_version FOREIGN KEY(version) REFERENCES versions (id), 
	CONSTRAINT uq_images_version_builder_digest_reference UNIQUE (version, builder, digest, reference)
);
INSERT INTO "images" VALUES(1,1,'oci','sha256:6105d6cc76af400325e94d588ce511be5bfdbb73b437dc51eca43917d7a43e3d','registry/digits','2026-11-20 17:18:48.925645');
CREATE TABLE importances (
	run INTEGER NOT NULL, 
	checkpoint TEXT NOT NULL, 
	feature TEXT NOT NULL, 
	importance DOUBLE, 
	deviation DOUBLE, 
	metric TEXT NOT NULL, 
	CONSTRAINT pk_importances PRIMARY KEY (run, checkpoint, feature), 
	CONSTRAINT fk_importances_run FOREIGN KEY(run) REFERENCES runs (id)
);
INSERT INTO "importances" VALUES(3,'fine-3','height',0.4,0.1,'loss');
INSERT INTO "importances" VALUES(3,'fine-3','age',0.1,0.05,'loss');
CREATE TABLE metrics (
	run INTEGER NOT NULL, 
	stage TEXT NOT NULL, 
	name TEXT NOT NULL, 
	steps JSON NOT NULL, 
	series JSON NOT NULL, 
	last_value DOUBLE, 
	last_flag TEXT, 
	CONSTRAINT pk_metrics PRIMARY KEY (run, stage, name), 
	CONSTRAINT fk_metrics_run FOREIGN KEY(run) REFERENCES runs (id)
);
INSERT INTO "metrics" VALUES(1,'fine','loss','[1, 2, 3]','[1.0, 0.5, 0.3333333333333333]',3.33333333333333314829e-01,NULL);
INSERT INTO "metrics" VALUES(2,'fine','loss','[1, 2, 3]','[1.0, 0.5, 0.3333333333333333]',3.33333333333333314829e-01,NULL);
INSERT INTO "metrics" VALUES(3,'fine','loss','[1, 2, 3]','[1.0, 0.5, 0.3333333333333333]',3.33333333333333314829e-01,NULL);
CREATE TABLE models (
	id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	description TEXT NOT NULL, 
	latest INTEGER NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_models PRIMARY KEY (id), 
	CONSTRAINT uq_models_name UNIQUE (name)
);
INSERT INTO "models" VALUES(1,'digits','handwritten digits',3,'2026-11-20 17:18:48.628766');
CREATE TABLE outbox (
	id INTEGER NOT NULL, 
	exporter TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	fact JSON NOT NULL, 
	at DATETIME NOT NULL, 
	attempts INTEGER NOT NULL, 
	error TEXT NOT NULL, 
	claimed_until DATETIME, 
	sent_at DATETIME, 
	refused_at DATETIME, 
	CONSTRAINT pk_outbox PRIMARY KEY (id)
);
CREATE TABLE params (
	run INTEGER NOT NULL, 
	stage TEXT NOT NULL, 
	name TEXT NOT NULL, 
	value JSON NOT NULL, 
	CONSTRAINT pk_params PRIMARY KEY (run, stage, name), 
	CONSTRAINT fk_params_run FOREIGN KEY(run) REFERENCES runs (id)
);
INSERT INTO "params" VALUES(1,'coarse','lr',0.01);
INSERT INTO "params" VALUES(1,'coarse','layers','[8, 16]');
INSERT INTO "params" VALUES(1,'fine','lr',0.001);
INSERT INTO "params" VALUES(1,'fine','schedule','null');
INSERT INTO "params" VALUES(2,'coarse','lr',0.01);
INSERT INTO "params" VALUES(2,'coarse','layers','[8, 16]');
INSERT INTO "params" VALUES(2,'fine','lr',0.001);
INSERT INTO "params" VALUES(2,'fine','schedule','null');
INSERT INTO "params" VALUES(3,'coarse','lr',0.01);
INSERT INTO "params" VALUES(3,'coarse','layers','[8, 16]');
INSERT INTO "params" VALUES(3,'fine','lr',0.001);
INSERT INTO "params" VALUES(3,'fine','schedule','null');
CREATE TABLE removed_files (
	uri TEXT NOT NULL, 
	digest TEXT NOT NULL, 
	at DATETIME NOT NULL, 
	actor TEXT NOT NULL, 
	CONSTRAINT pk_removed_files PRIMARY KEY (uri)
);
CREATE TABLE rollouts (
	endpoint TEXT NOT NULL, 
	run_id TEXT NOT NULL, 
	version INTEGER NOT NULL, 
	state TEXT NOT NULL, 
	step INTEGER NOT NULL, 
	detail JSON NOT NULL, 
	started_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	CONSTRAINT pk_rollouts PRIMARY KEY (endpoint, run_id), 
	CONSTRAINT ck_rollouts_state CHECK (state IN ('running', 'done', 'aborted')), 
	CONSTRAINT fk_rollouts_version FOREIGN KEY(version) REFERENCES versions (id)
);
CREATE TABLE runs (
	id INTEGER NOT NULL, 
	model INTEGER NOT NULL, 
	dag_id TEXT NOT NULL, 
	run_id TEXT NOT NULL, 
	actor TEXT NOT NULL, 
	run_type TEXT NOT NULL, 
	started_at DATETIME, 
	code_digest TEXT, 
	commit_id TEXT, 
	branch TEXT, 
	dirty BOOLEAN, 
	spec JSON NOT NULL, 
	seed BIGINT, inputs_digest TEXT, interval_start DATETIME, interval_end DATETIME, partition TEXT, run_after DATETIME, reason TEXT, seconds DOUBLE, gpu_seconds DOUBLE, diff_digest TEXT, repository TEXT, 
	CONSTRAINT pk_runs PRIMARY KEY (id), 
	CONSTRAINT fk_runs_model FOREIGN KEY(model) REFERENCES models (id), 
	CONSTRAINT uq_runs_model_dag_id_run_id UNIQUE (model, dag_id, run_id)
);
INSERT INTO "runs" VALUES(1,1,'digits','manual__1','mia','manual','2026-03-01 12:00:00.000000','sha256:5694d08a2e53ffcae0c3103e5ad6f6076abd960eb1f8a56577040bc1028f702b','c0ffee','main',1,'{"name": "digits", "train": {"backend": "local"}}',7,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "runs" VALUES(2,1,'digits','manual__2','mia','manual','2026-03-01 12:00:00.000000','sha256:5694d08a2e53ffcae0c3103e5ad6f6076abd960eb1f8a56577040bc1028f702b','c0ffee','main',1,'{"name": "digits", "train": {"backend": "local"}}',7,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "runs" VALUES(3,1,'digits','manual__3','mia','manual','2026-03-01 12:00:00.000000','sha256:5694d08a2e53ffcae0c3103e5ad6f6076abd960eb1f8a56577040bc1028f702b','c0ffee','main',1,'{"name": "digits", "train": {"backend": "local"}}',7,'sha256:32381523e63197c929b67f793a8098bed0ae3a6fa902634fdbcc6fa4567f3346','2026-02-28 00:00:00.000000','2026-03-01 00:00:00.000000','2026-02-28T00:00:00',NULL,'the data of <February> is whole',120.0,240.0,'sha256:df087996d45b03e7eb8c133c0298fd98d35113fca26aaba58612fef3cc212cad','https://example.org/models.git');
CREATE TABLE stages (
	run INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	position INTEGER NOT NULL, 
	backend TEXT, 
	seed BIGINT, 
	skipped BOOLEAN NOT NULL, 
	seconds DOUBLE, 
	cpu_seconds DOUBLE, 
	gpu_seconds DOUBLE, 
	peak_memory_bytes BIGINT, 
	environment INTEGER, 
	CONSTRAINT pk_stages PRIMARY KEY (run, name), 
	CONSTRAINT fk_stages_run FOREIGN KEY(run) REFERENCES runs (id), 
	CONSTRAINT fk_stages_environment FOREIGN KEY(environment) REFERENCES environments (id)
);
INSERT INTO "stages" VALUES(3,'coarse',0,'local',7,0,20.0,18.5,NULL,NULL,1);
INSERT INTO "stages" VALUES(3,'fine',1,'kubernetes',7,0,100.0,90.0,240.0,2147483648,1);
INSERT INTO "stages" VALUES(3,'polish',2,NULL,NULL,1,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE version_files (
	version INTEGER NOT NULL, 
	path TEXT NOT NULL, 
	digest TEXT NOT NULL, 
	role TEXT NOT NULL, 
	CONSTRAINT pk_version_files PRIMARY KEY (version, path), 
	CONSTRAINT fk_version_files_digest FOREIGN KEY(digest) REFERENCES files (digest), 
	CONSTRAINT fk_version_files_version FOREIGN KEY(version) REFERENCES versions (id)
);
INSERT INTO "version_files" VALUES(1,'model/model.onnx','sha256:87e93f89f2be0db364e8be052f79f389e6c2da239831922e24513288af522a43','model');
INSERT INTO "version_files" VALUES(1,'outputs/meta.yml','sha256:e1241fb009ce68e0cec5c19baedeff497e82ab3ea58223f77466983f36a81bb4','');
INSERT INTO "version_files" VALUES(2,'model/model.onnx','sha256:87e93f89f2be0db364e8be052f79f389e6c2da239831922e24513288af522a43','model');
INSERT INTO "version_files" VALUES(2,'outputs/meta.yml','sha256:edd414c95acea1c273ab149255053a81db68153fdcdbf10a54a7fd84907d6f70','');
INSERT INTO "version_files" VALUES(3,'model/model.onnx','sha256:87e93f89f2be0db364e8be052f79f389e6c2da239831922e24513288af522a43','model');
INSERT INTO "version_files" VALUES(3,'outputs/meta.yml','sha256:149b89bcbc5d976301f37add77cca598e2049a3166f41c398341f205c9f19720','');
CREATE TABLE version_metrics (
	version INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	value DOUBLE, 
	flag TEXT, 
	CONSTRAINT pk_version_metrics PRIMARY KEY (version, name), 
	CONSTRAINT fk_version_metrics_version FOREIGN KEY(version) REFERENCES versions (id)
);
INSERT INTO "version_metrics" VALUES(1,'loss',0.125,NULL);
INSERT INTO "version_metrics" VALUES(1,'accuracy',0.97,NULL);
INSERT INTO "version_metrics" VALUES(2,'loss',0.125,NULL);
INSERT INTO "version_metrics" VALUES(2,'accuracy',0.97,NULL);
INSERT INTO "version_metrics" VALUES(3,'loss',0.125,NULL);
INSERT INTO "version_metrics" VALUES(3,'accuracy',0.97,NULL);
CREATE TABLE versions (
	id INTEGER NOT NULL, 
	model INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	run INTEGER NOT NULL, 
	description TEXT NOT NULL, 
	archive_uri TEXT NOT NULL, 
	archive_digest TEXT NOT NULL, 
	archive_size BIGINT NOT NULL, 
	model_digest TEXT NOT NULL, 
	checkpoint TEXT NOT NULL, 
	checkpoint_digest TEXT NOT NULL, 
	created_at DATETIME NOT NULL, 
	created_by TEXT NOT NULL, checkpoint_uri TEXT, base INTEGER CONSTRAINT fk_versions_base REFERENCES versions (id), 
	CONSTRAINT pk_versions PRIMARY KEY (id), 
	CONSTRAINT ck_versions_number CHECK (number >= 1), 
	CONSTRAINT fk_versions_model FOREIGN KEY(model) REFERENCES models (id), 
	CONSTRAINT fk_versions_run FOREIGN KEY(run) REFERENCES runs (id), 
	CONSTRAINT uq_versions_model_number UNIQUE (model, number), 
	CONSTRAINT uq_versions_run UNIQUE (run)
);
INSERT INTO "versions" VALUES(1,1,1,1,'handwritten digits','file:///artifacts/a.zip','sha256:0c3ab42d8bf783773c98f334be8a92d202000c54df2231d8bc6b679f0d6d2887',4321,'sha256:a453c6099159c052be31ff04cb1c5ca4703e44d4df7385561d5cbceaf31d590a','fine-3','sha256:f65bca66afda90bdcf45196d349bb2495bdc98a4e50fd2f13e81c2ccafa3523b','2026-11-20 17:18:48.628766','mia',NULL,NULL);
INSERT INTO "versions" VALUES(2,1,2,2,'handwritten digits','file:///artifacts/a.zip','sha256:9dd17c4a180ac1cc8e8b500bdcdacecced58d45e588b4d0d95037b7dfc4a70d0',4321,'sha256:b8f6468cf8d0641fe26ba6babc443e6587856483bf3f1123e7bdee62424fbe5c','fine-3','sha256:dcd206f7b43d06a94a8a1e8ee7699707eb7506b13736f40f6a6299464c80834a','2026-11-20 17:18:48.732026','mia',NULL,NULL);
INSERT INTO "versions" VALUES(3,1,3,3,'handwritten digits','file:///artifacts/a.zip','sha256:d22180782af2120c1012c98b884effb4a2f24fb38d59a7381e9495014a1545dd',4321,'sha256:e26fd63db8d8b46fa82aac9d8603fb4d618fb41fab7a15eaacb7dd1300b8a23a','fine-3','sha256:9b5f12031c5f0a42069c1a147091ad06965408a0221be28ad1b5e954aa079a35','2026-11-29 04:59:52.182361','mia','file:///artifacts/fine-3',1);
CREATE TABLE weight_history (
	id INTEGER NOT NULL, 
	endpoint TEXT NOT NULL, 
	version INTEGER NOT NULL, 
	weight INTEGER NOT NULL, 
	at DATETIME NOT NULL, 
	actor TEXT NOT NULL, 
	run_id TEXT, 
	CONSTRAINT pk_weight_history PRIMARY KEY (id), 
	CONSTRAINT ck_weight_history_weight CHECK (weight BETWEEN 0 AND 100), 
	CONSTRAINT fk_weight_history_version FOREIGN KEY(version) REFERENCES versions (id)
);
INSERT INTO "weight_history" VALUES(1,'digits',1,90,'2026-11-20 17:18:48.836367','airflow',NULL);
INSERT INTO "weight_history" VALUES(2,'digits',2,10,'2026-11-20 17:18:48.836367','airflow',NULL);
CREATE INDEX ix_runs_code_digest ON runs (code_digest);
CREATE INDEX ix_runs_commit_id ON runs (commit_id);
CREATE INDEX ix_versions_archive_digest ON versions (archive_digest);
CREATE INDEX ix_versions_model_digest ON versions (model_digest);
CREATE INDEX ix_version_metrics_name_value ON version_metrics (name, value);
CREATE INDEX ix_version_files_digest ON version_files (digest);
CREATE INDEX ix_images_digest ON images (digest);
CREATE INDEX ix_aliases_version ON aliases (version);
CREATE INDEX ix_alias_history_model_name ON alias_history (model, name);
CREATE INDEX ix_alias_history_version ON alias_history (version);
CREATE INDEX ix_deployments_version ON deployments (version);
CREATE INDEX ix_weight_history_endpoint ON weight_history (endpoint);
CREATE INDEX ix_weight_history_version ON weight_history (version);
CREATE INDEX ix_rollouts_version ON rollouts (version);
CREATE INDEX ix_events_model_id ON events (model, id);
CREATE INDEX ix_events_version ON events (version);
CREATE TRIGGER versions_no_update BEFORE UPDATE ON versions BEGIN SELECT RAISE(ABORT, 'versions is append-only'); END;
CREATE TRIGGER alias_history_no_update BEFORE UPDATE ON alias_history BEGIN SELECT RAISE(ABORT, 'alias_history is append-only'); END;
CREATE TRIGGER weight_history_no_update BEFORE UPDATE ON weight_history BEGIN SELECT RAISE(ABORT, 'weight_history is append-only'); END;
CREATE TRIGGER events_no_update BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'events is append-only'); END;
CREATE TRIGGER events_no_delete BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'events is append-only'); END;
CREATE INDEX ix_runs_inputs_digest ON runs (inputs_digest);
CREATE INDEX ix_datasets_run ON datasets (run);
CREATE INDEX ix_datasets_digest ON datasets (digest);
CREATE INDEX ix_failures_model_at ON failures (model, at);
CREATE INDEX ix_failures_run_id ON failures (run_id);
CREATE INDEX ix_datasets_name ON datasets (name);
CREATE INDEX ix_datasets_uri ON datasets (substr(uri, 1, 300));
CREATE INDEX ix_deployments_serving ON deployments (version) WHERE weight > 0;
CREATE INDEX ix_stages_environment ON stages (environment);
CREATE INDEX ix_figures_run ON figures (run);
CREATE INDEX ix_versions_base ON versions (base);
CREATE INDEX ix_versions_checkpoint_digest ON versions (checkpoint_digest);
CREATE INDEX ix_asset_versions_digest ON asset_versions (digest);
CREATE INDEX ix_asset_versions_version ON asset_versions (version);
CREATE INDEX ix_asset_files_digest ON asset_files (digest);
CREATE INDEX ix_asset_references_target ON asset_references (target);
CREATE INDEX ix_asset_aliases_asset_version ON asset_aliases (asset_version);
CREATE INDEX ix_asset_alias_history_asset ON asset_alias_history (asset);
CREATE INDEX ix_asset_alias_history_asset_version ON asset_alias_history (asset_version);
CREATE INDEX ix_removed_files_digest ON removed_files (digest);
CREATE INDEX ix_outbox_unsent ON outbox (exporter, id) WHERE sent_at IS NULL AND refused_at IS NULL;
CREATE TRIGGER asset_versions_no_update BEFORE UPDATE ON asset_versions BEGIN SELECT RAISE(ABORT, 'asset_versions is append-only'); END;
CREATE TRIGGER asset_versions_no_delete BEFORE DELETE ON asset_versions BEGIN SELECT RAISE(ABORT, 'asset_versions is append-only'); END;
CREATE TRIGGER asset_files_no_update BEFORE UPDATE ON asset_files BEGIN SELECT RAISE(ABORT, 'asset_files is append-only'); END;
CREATE TRIGGER asset_files_no_delete BEFORE DELETE ON asset_files BEGIN SELECT RAISE(ABORT, 'asset_files is append-only'); END;
CREATE TRIGGER asset_references_no_update BEFORE UPDATE ON asset_references BEGIN SELECT RAISE(ABORT, 'asset_references is append-only'); END;
CREATE TRIGGER asset_references_no_delete BEFORE DELETE ON asset_references BEGIN SELECT RAISE(ABORT, 'asset_references is append-only'); END;
CREATE TRIGGER asset_alias_history_no_update BEFORE UPDATE ON asset_alias_history BEGIN SELECT RAISE(ABORT, 'asset_alias_history is append-only'); END;
CREATE TRIGGER asset_alias_history_no_delete BEFORE DELETE ON asset_alias_history BEGIN SELECT RAISE(ABORT, 'asset_alias_history is append-only'); END;
CREATE TRIGGER versions_no_delete BEFORE DELETE ON versions BEGIN SELECT RAISE(ABORT, 'versions is append-only'); END;
CREATE TRIGGER alias_history_no_delete BEFORE DELETE ON alias_history BEGIN SELECT RAISE(ABORT, 'alias_history is append-only'); END;
CREATE TRIGGER weight_history_no_delete BEFORE DELETE ON weight_history BEGIN SELECT RAISE(ABORT, 'weight_history is append-only'); END;
CREATE INDEX ix_environments_image ON environments (substr(image, length(image) - 70));
COMMIT;
