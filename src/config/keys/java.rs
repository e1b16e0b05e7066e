//! RocketMQ's keys that have no effect here, with the reason: accepted, and named once at start,
//! so that files written for Java load as they are. Source: the 5.5.0 servers' own dump.

/// Keys that have no effect for the same reason.
pub(super) struct Group {
    /// Why.
    pub reason: &'static str,
    /// `name=default` of 5.5.0, separated by blanks. Thread pools: the values for four cores.
    pub keys: &'static str,
}

/// The broker's.
pub(super) const BROKER: &[Group] = &[
    Group {
        reason: "requests are served by a few event loops: there are no thread pools to size",
        keys: "sendMessageThreadPoolNums=4 pullMessageThreadPoolNums=24 \
             queryMessageThreadPoolNums=12 adminBrokerThreadPoolNums=16 \
             clientManageThreadPoolNums=32 consumerManageThreadPoolNums=32 \
             heartbeatThreadPoolNums=4 endTransactionThreadPoolNums=16 \
             processReplyMessageThreadPoolNums=24 sendThreadPoolQueueCapacity=10000 \
             pullThreadPoolQueueCapacity=100000 serverWorkerThreads=8 serverSelectorThreads=3 \
             putMessageFutureThreadPoolNums=4 litePullMessageThreadPoolNums=24 \
             ackMessageThreadPoolNums=16 loadBalanceProcessorThreadPoolNums=32 \
             recoverThreadPoolNums=32 putThreadPoolQueueCapacity=10000 \
             litePullThreadPoolQueueCapacity=100000 ackThreadPoolQueueCapacity=100000 \
             replyThreadPoolQueueCapacity=10000 queryThreadPoolQueueCapacity=20000 \
             clientManagerThreadPoolQueueCapacity=1000000 \
             consumerManagerThreadPoolQueueCapacity=1000000 \
             heartbeatThreadPoolQueueCapacity=50000 endTransactionPoolQueueCapacity=100000 \
             adminBrokerThreadPoolQueueCapacity=10000 loadBalanceThreadPoolQueueCapacity=100000 \
             asyncSendEnable=true compactionThreadNum=6 timerGetMessageThreadNum=3 \
             timerPutMessageThreadNum=3 dispatchCqThreads=10 \
             batchDispatchRequestThreadPoolNums=16 topicQueueLockNum=32 \
             serverCallbackExecutorThreads=0 serverNettyWorkerGroupEnable=true \
             clientWorkerThreads=4 clientCallbackExecutorThreads=2 \
             disableCallbackExecutor=false disableNettyWorkerGroup=false",
    },
    Group {
        reason: "requests do not wait in thread-pool queues; what is under way is limited in \
                 bytes (inFlightBytesMax)",
        keys: "brokerFastFailureEnable=true waitTimeMillsInSendQueue=200 \
             waitTimeMillsInPullQueue=5000 waitTimeMillsInLitePullQueue=5000 \
             waitTimeMillsInHeartbeatQueue=31000 waitTimeMillsInTransactionQueue=3000 \
             waitTimeMillsInAckQueue=3000 waitTimeMillsInAdminBrokerQueue=5000 \
             osPageCacheBusyTimeOutMills=1000",
    },
    Group {
        reason: "one sync covers all that waits; there is no interval to tune (flushDiskType \
                 chooses the durability)",
        keys: "flushIntervalCommitLog=500 flushCommitLogTimed=true flushCommitLogLeastPages=4 \
             flushCommitLogThoroughInterval=10000 syncFlushTimeout=5000 \
             commitIntervalCommitLog=200 commitCommitLogLeastPages=4 \
             commitCommitLogThoroughInterval=200 putMessageTimeout=8000 diskFallRecorded=true \
             fastFailIfNoBufferInStorePool=false enableRunningFlagsInFlush=false \
             wakeCommitWhenPutMessage=true wakeFlushWhenPutMessage=false \
             maxAsyncPutMessageRequests=5000",
    },
    Group {
        reason: "consumer offsets are entries of the replicated log, not a file written now and \
                 then",
        keys: "consumerOffsetUpdateVersionStep=500 persistConsumerOffsetIncrementally=false \
             flushConsumerOffsetInterval=5000 flushConsumerOffsetHistoryInterval=60000",
    },
    Group {
        reason: "recovery always checks every entry from the last checkpoint on",
        keys: "commitLogRecoverMaxNum=10 checkCRCOnRecover=true enabledAppendPropCRC=false \
             recoverConcurrently=false maxRecoveryCommitlogFiles=30 \
             checkCommitLogOffsetOnRecover=false forceVerifyPropCRC=false \
             enableAcceleratedRecovery=false \
             enableLogConsumeQueueRepeatedlyBuildWhenRecover=false",
    },
    Group {
        reason: "consume queues and the key index are derived from the log and stored in runs \
                 below storePathRootDir",
        keys: "flushConsumeQueueLeastPages=2 flushConsumeQueueThoroughInterval=60000 \
             flushIntervalConsumeQueue=1000 mappedFileSizeConsumeQueue=6000000 \
             deleteConsumeQueueFilesInterval=100 messageIndexSafe=false maxHashSlotNum=5000000 \
             maxIndexNum=20000000 indexFileWriteEnable=true indexFileReadEnable=true \
             mapperFileSizeBatchConsumeQueue=13800000 putMsgIndexHightWater=600000 \
             dispatchCqCacheNum=4096 enableAsyncReput=true recheckReputOffsetFromCq=false \
             travelCqFileNumWhenGetMessage=1 correctLogicMinOffsetSleepInterval=1 \
             correctLogicMinOffsetForceInterval=300000 searchBcqByCacheEnable=true \
             dispatchFromSenderThread=false logicalDiskSpaceCleanForciblyThreshold=0.8 \
             maxConsumeQueueScan=20000 sampleCountThreshold=5000 \
             accessMessageInMemoryHotRatio=26 enableBuildConsumeQueueConcurrently=false \
             readUnCommitted=false putConsumeQueueDataByFileChannel=true",
    },
    Group {
        reason: "whole segments are deleted as soon as fileReservedTime, deleteWhen and the \
                 disk ratios say so",
        keys: "destroyMapedFileIntervalForcibly=120000 redeleteHangedFileInterval=120000 \
             deleteCommitLogFilesInterval=100 cleanResourceInterval=10000 deleteFileBatchMax=10 \
             maxBatchDeleteFilesNum=50 enableCleanExpiredOffset=false",
    },
    Group {
        reason: "the memory of the Java process is not there to tune",
        keys: "transferMsgByHeap=true serverSocketSndBufSize=0 serverSocketRcvBufSize=0 \
             useEpollNativeSelector=false transientStorePoolEnable=false \
             transientStorePoolSize=5 warmMapedFileEnable=false \
             useReentrantLockWhenPutMessage=true highSpeedMode=false \
             flushLeastPagesWhenWarmMapedFile=4096 debugLockEnable=false writeWithoutMmap=false \
             mappedFileSwapEnable=true commitLogForceSwapMapInterval=43200000 \
             commitLogSwapMapInterval=3600000 commitLogSwapMapReserveFileNum=100 \
             logicQueueForceSwapMapInterval=43200000 logicQueueSwapMapInterval=3600000 \
             cleanSwapedMapInterval=300000 logicQueueSwapMapReserveFileNum=20 sampleSteps=32 \
             sharedByteBufferNum=16 spinLockCollisionRetreatOptimalDegree=1000 useABSLock=false \
             serverOnewaySemaphoreValue=256 serverAsyncSemaphoreValue=64 \
             writeBufferHighWaterMark=0 writeBufferLowWaterMark=0 \
             serverPooledByteBufAllocatorEnable=true clientOnewaySemaphoreValue=65535 \
             clientAsyncSemaphoreValue=65535 clientSocketSndBufSize=0 clientSocketRcvBufSize=0 \
             clientPooledByteBufAllocatorEnable=false",
    },
    Group {
        reason: "reads of cold data are not throttled",
        keys: "coldCtrStrategyEnable=false usePIDColdCtrStrategy=true cgColdReadThreshold=3145728 \
             globalColdReadThreshold=104857600 coldDataFlowControlEnable=false \
             coldDataScanEnable=false dataReadAheadEnable=true",
    },
    Group {
        reason: "an answer always means that a majority of the group has the entry",
        keys: "enableBatchPush=false lockInStrictMode=false inSyncReplicas=1 minInSyncReplicas=1 \
             totalReplicas=1 allAckInSyncStateSet=false enableAutoInSyncReplicas=false",
    },
    Group {
        reason: "members are fed from the Raft log; master and slave roles come later",
        keys: "brokerIP2= slaveTimeout=3000 haMasterAddress= haSendHeartbeatInterval=5000 \
             haHousekeepingInterval=20000 haTransferBatchSize=32768 haMaxGapNotInSync=268435456 \
             duplicationEnable=false offsetCheckInSlave=false haFlowControlEnable=false \
             haMaxTimeSlaveNotCatchup=15000 syncMasterFlushOffsetWhenStartup=false \
             maxChecksumRange=1073741824 replicasPerDiskPartition=1",
    },
    Group {
        reason: "controller mode and broker containers do not exist here: members elect their \
                 leader (enableDLegerCommitLog)",
        keys: "brokerNotActiveTimeoutMillis=10000 sendHeartbeatTimeoutMillis=1000 \
             brokerHeartbeatInterval=1000 syncBrokerMemberGroupPeriod=1000 forwardTimeout=3000 \
             enableRemoteEscape=false skipPreOnline=false compatibleWithOldNameSrv=true \
             controllerAddr= fetchControllerAddrByDnsLookup=false syncBrokerMetadataPeriod=5000 \
             checkSyncStateSetPeriod=5000 syncControllerMetadataPeriod=10000 \
             controllerHeartBeatTimeoutMills=10000 brokerElectionPriority=2147483647 \
             isBrokerContainer=false isInBrokerContainer=false storePathEpochFile= \
             storePathBrokerIdentity= maxSlaveResendLength=268435456 syncFromLastFile=false \
             asyncLearner=false cleanOfflineBrokerInterval=30000",
    },
    Group {
        reason: "registration is always complete, and sent to every name server in namesrvAddr",
        keys: "forceRegister=true compressedRegister=false fetchNamesrvAddrByAddressServer=false \
             enableSplitMetadata=true splitMetadataSize=2000 fetchNameSrvAddrByDnsLookup=false \
             updateNameServerAddrPeriod=120000 fetchNamesrvAddrInterval=10000 \
             enableSingleTopicRegister=false enableSplitRegistration=false \
             splitRegistrationSize=800 isScanAvailableNameSrv=true",
    },
    Group {
        reason: "connections to other servers are kept and replaced by themselves",
        keys: "enableShutdownGracefully=false connectTimeoutMillis=3000 \
             clientChannelMaxIdleTimeSeconds=120 clientCloseSocketIfTimeout=true \
             channelNotActiveInterval=60000 maxReconnectIntervalTimeSeconds=60 \
             enableReconnectForGoAway=true socksProxyConfig={}",
    },
    Group {
        reason: "metrics are always counted, and read at http://broker:listenPort/metrics",
        keys: "enableDetailStat=true accountStatsEnable=true metricsExporterType=DISABLE \
             metricsPromExporterPort=5557 commercialBaseCount=1 commercialSizePerMsg=4096 \
             accountStatsPrintZeroValues=true maxStatsIdleTimeInMinutes=-1 \
             autoDeleteUnusedStats=true metricsOtelCardinalityLimit=50000 \
             metricsGrpcExporterTarget= metricsGrpcExporterHeader= \
             metricGrpcExporterTimeOutInMills=3000 metricGrpcExporterIntervalInMills=60000 \
             metricLoggingExporterIntervalInMills=10000 metricsPromExporterHost= metricsLabel= \
             metricsExportBatchMaxDataPoints=1000 metricsInDelta=false \
             enableRemotingMetrics=true enableMessageStoreMetrics=true \
             enableConnectionMetrics=true enableTransactionMetrics=true enableStatsMetrics=true \
             enableRequestMetrics=true enableLagAndDlqMetrics=true estimateAccumulation=true \
             printChannelGroups=false printChannelGroupsMinNum=5",
    },
    Group {
        reason: "delay levels cannot be changed yet",
        keys: "flushDelayOffsetInterval=10000 delayOffsetUpdateVersionStep=200 \
             enableScheduleMessageStats=true enableScheduleAsyncDeliver=false \
             scheduleAsyncDeliverMaxPendingLimit=2000 \
             scheduleAsyncDeliverMaxResendNum2Blocked=3",
    },
    Group {
        reason: "timed messages are not served yet",
        keys: "recallMessageEnable=false timerWheelEnable=true timerPrecisionMs=1000 \
             timerMaxDelaySec=259200 allowRecallWhenBrokerNotWriteable=true \
             mappedFileSizeTimerLog=104857600 timerRollWindowSlot=172800 \
             timerFlushIntervalMs=1000 timerEnableDisruptor=false timerEnableCheckMetrics=true \
             timerInterceptDelayLevel=false timerWheelSnapshotFlush=false \
             timerStopEnqueue=false timerCheckMetricsWhen=05 timerSkipUnknownError=false \
             timerWarmEnable=false timerStopDequeue=false timerEnableRetryUntilSuccess=false \
             timerCongestNumEachSlot=2147483647 timerMetricSmallThreshold=1000000 \
             timerProgressLogIntervalMs=10000 timerWheelSnapshotIntervalMs=10000 \
             timerRecallToTimeWheelEnable=true timerRecallToTimelineEnable=true \
             timerReputServiceCorePoolSize=6 timerReputServiceMaxPoolSize=6 \
             timerReputServiceQueueCapacity=10000 timerColdDataCheckIntervalMs=60000 \
             appendTopicForTimerDeleteKey=false",
    },
    Group {
        reason: "transactions are not served yet",
        keys: "transactionTimeOut=6000 transactionCheckMax=15 transactionCheckInterval=30000 \
             transactionOpBatchInterval=3000 transactionOpMsgMaxSize=4096 \
             transactionMetricFlushInterval=10000 transWriteOriginTransHalfEnable=true",
    },
    Group {
        reason: "SQL92 filters are not served yet",
        keys: "enablePropertyFilter=false enableCalcFilterBitMap=false filterSupportRetry=false \
             maxFilterMessageSize=16000 enableConsumeQueueExt=false \
             expectConsumerNumUseFilter=32 maxErrorRateOfBloomFilter=20 \
             filterDataCleanTimeSpan=86400000 mappedFileSizeConsumeQueueExt=50331648 \
             bitMapLengthConsumeQueueExt=64",
    },
    Group {
        reason: "POP consumption is not served yet",
        keys: "defaultPopShareQueueNum=-1 enableRetryTopicV2=false popFromRetryProbability=20 \
             reviveQueueNum=8 defaultMessageRequestMode=PULL popPollingSize=1024 \
             popPollingMapSize=100000 popPollingMapExpireTimeSeconds=600 \
             maxPopPollingSize=100000 reviveInterval=1000 reviveMaxSlow=3 reviveScanTime=10000 \
             enableSkipLongAwaitingAck=false reviveAckWaitMs=180000 enablePopLog=false \
             enablePopBufferMerge=false popCkStayBufferTime=10000 popCkStayBufferTimeOut=3000 \
             popCkMaxBufferSize=200000 popCkOffsetMaxQueueSize=20000 enablePopBatchAck=false \
             popLongPollingForceNotifyInterval=800 enableNotifyBeforePopCalculateLag=true \
             enableNotifyAfterPopOrderLockRelease=true initPopOffsetByCheckMsgInMem=true \
             retrieveMessageFromPopRetryTopicV1=true popFromRetryProbabilityForPriority=0 \
             priorityOrderAsc=true popConsumerFSServiceInit=true popConsumerKVServiceLog=false \
             popConsumerKVServiceInit=false popConsumerKVServiceEnable=false \
             popReviveMaxReturnSizePerRead=16384 popReviveConcurrency=32 \
             popReviveMaxAttemptTimes=16 popReviveSkipIfGroupAbsent=true \
             useSeparateRetryQueue=false useMessageFilterForNotification=true \
             maxMessageFilterNumForNotification=64 loadBalancePollNameServerInterval=30000 \
             serverLoadBalancerEnable=true enablePopMetrics=true \
             popResponseReturnActualRetryTopic=false popInflightMessageThreshold=10000 \
             enablePopMessageThreshold=false skipWhenCKRePutReachMaxTimes=false \
             appendAckAsync=false appendCkAsync=false clearRetryTopicWhenDeleteTopic=true",
    },
    Group {
        reason: "light queues and lite topics are not served",
        keys: "enableLmq=false enableMultiDispatch=false enableLmqStats=false \
             enableLiteEventMode=true liteEventCheckInterval=10000 liteTtlCheckInterval=120000 \
             minLiteTTl=900000 liteSubscriptionCheckInterval=120000 \
             liteSubscriptionCheckTimeoutMills=180000 maxLiteSubscriptionCount=100000 \
             enableLitePopLog=false maxClientEventCount=100 \
             liteEventFullDispatchDelayTime=10000 \
             liteEventFullDispatchDelayTimeForWildcardGroup=10000 \
             liteLagLatencyCollectEnable=false liteLagLatencyMetricsEnable=false \
             liteLagCountMetricsEnable=false liteLagLatencyTopK=50 maxLmqConsumeQueueNum=20000 \
             enableLmqQuota=false",
    },
    Group {
        reason: "compacted topics are not served",
        keys: "compactionMappedFileSize=104857600 compactionCqMappedFileSize=10485760 \
             compactionScheduleInternal=900000 maxOffsetMapSize=104857600 enableCompaction=true",
    },
    Group {
        reason: "there is one store format, without RocksDB",
        keys: "combineAssignOffsetCQType=default transactionCheckRocksdbCoreThreads=2 \
             transactionCheckRocksdbMaxThreads=5 transactionCheckRocksdbQueueCapacity=2000 \
             configManagerVersion=v1 useSingleRocksDBForAllConfigs=false \
             timerRocksDBEnable=false timerRocksDBStopScan=false timerRocksDBPrecisionMs=1000 \
             timerRocksDBRollMaxTps=8000.0 timerRocksDBTimeExpiredMaxTps=200000.0 \
             timerRocksDBRollIntervalHours=1 timerRocksDBRollRangeHours=2 \
             transRocksDBEnable=false indexRocksDBEnable=false maxRocksDBIndexQueryDays=7 \
             iteratorWhenUseRocksdbConsumeQueue=true cleanRocksDBDirtyCQIntervalMin=60 \
             statRocksDBCQIntervalSec=10 memTableFlushIntervalMs=3600000 \
             realTimePersistRocksDBConfig=true enableRocksDBLog=false \
             rocksdbCQDoubleWriteEnable=false combineCQLoadingCQTypes=default;defaultRocksDB \
             combineCQPreferCQType=default combineCQEnableCheckSelf=false \
             combineCQMaxExtraSearchCommitLogFiles=3 combineCQUseRocksdbForLmq=false \
             bottomMostCompressionTypeForConsumeQueueStore=zstd rocksdbCompressionType=lz4 \
             rocksdbFlushWalFrequency=1024 rocksdbWalFileRollingThreshold=1073741824 \
             useSeparateStorePathForRocksdbCQ=false",
    },
    Group {
        reason: "always as with RocketMQ's default value",
        keys: "serverSocketBacklog=1024 \
               realTimeNotifyConsumerChange=true useServerSideResetOffset=true \
             enableBroadcastOffsetStore=true rejectPullConsumerEnable=false \
             storeReplyMessageEnable=true useStaticSubscription=false \
             validateSystemTopicWhenUpdateTopic=true maxTopicLength=127 \
             autoMessageVersionOnTopicLen=true broadcastOffsetExpireSecond=120 \
             broadcastOffsetExpireMaxSecond=300 subscriptionExpiredTimeout=600000 \
             enableMixedMessageType=false enableCreateSysGroup=true maxMsgsNumBatch=64 \
             pullBatchMaxMessageCount=160 enableRegisterProducer=true",
    },
    Group {
        reason: "internal to the Java server",
        keys: "isolateLogEnable=false brokerConfigPath= rocketmqHome= messageStorePlugIn= \
             enableNetWorkFlowControl=false enableFastChannelEventProcess=false \
             readOnlyCommitLogStorePaths= startAcceptSendRequestTimeStamp=0 \
             disappearTimeAfterStart=-1",
    },
    Group {
        reason: "access control is not served yet",
        keys: "authenticationProvider= authenticationMetadataProvider= authenticationStrategy= \
             authenticationWhitelist= initAuthenticationUser= \
             innerClientAuthenticationCredentials= authorizationProvider= \
             authorizationMetadataProvider= authorizationStrategy= authorizationWhitelist= \
             migrateAuthFromV1Enabled= authConfigPath=",
    },
    Group {
        reason: "no such key in RocketMQ either: this always lies below storePathRootDir",
        keys: "storePathConsumeQueue= storePathIndex= storeCheckpoint= abortFile=",
    },
    Group {
        reason: "removed from RocketMQ, without effect there as well",
        keys: "checkTransactionMessageEnable= filterServerNums= commercialEnable= \
             commercialTimerCount= commercialTransCount= commercialBigCount=",
    },
];

/// The name server's.
pub(super) const NAMESRV: &[Group] = &[
    Group { reason: "always as with RocketMQ's default value", keys: "serverSocketBacklog=1024" },
    Group {
        reason: "requests are served by a few event loops: there are no thread pools to size",
        keys: "clientRequestThreadPoolNums=8 defaultThreadPoolNums=16 \
             clientRequestThreadPoolQueueCapacity=50000 defaultThreadPoolQueueCapacity=10000 \
             serverAsyncSemaphoreValue=64 serverCallbackExecutorThreads=0 \
             serverNettyWorkerGroupEnable=true serverOnewaySemaphoreValue=256 \
             serverPooledByteBufAllocatorEnable=true serverSelectorThreads=3 \
             serverSocketRcvBufSize=0 serverSocketSndBufSize=0 serverWorkerThreads=8 \
             useEpollNativeSelector=false writeBufferHighWaterMark=0 writeBufferLowWaterMark=0 \
             unRegisterBrokerQueueCapacity=3000",
    },
    Group {
        reason: "a registration carries the group's Raft term and followers serve reads: acting \
                 masters are not needed",
        keys: "supportActingMaster=false notifyMinBrokerIdChanged=false",
    },
    Group {
        reason: "internal to the Java server",
        keys: "clusterTest=false productEnvName=center rocketmqHome= \
             enableShutdownGracefully=false",
    },
];
