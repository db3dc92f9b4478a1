import MartletBase
import MartletKeyspace
import MartletRESP

// Keyspace notifications: what happens to keys, published to channels that are named after the key or the event.
//
// `notify-keyspace-events` chooses the classes. The keyspace records events only while some are wanted and somebody has
// subscribed to anything; here they are taken after each command, and after work that the node does by itself.
//
// Source: Redis 7.0 notify.c; events of fields that expire: Valkey 9.

extension Node {
    /// To be called when the configuration, or whether somebody listens, may have changed.
    mutating func updateKeyEventInterest() {
        var interest: KeyEventInterest = []
        let classes = configuration.keyspaceEvents
        if pubSub.hasListeners, !classes.isDisjoint(with: [.keyspace, .keyevent]) {
            if !classes.isDisjoint(with: .all) { interest.insert(.changes) }
            if classes.contains(.newKey) { interest.insert(.newKeys) }
            if classes.contains(.keyMiss) { interest.insert(.misses) }
        }
        if tracking.clientCount > 0 { interest.insert(.changes) }
        if keyspace.interest != interest { keyspace.interest = interest }
    }

    /// Tells those who listen what has happened to keys. - Parameter client: whose command did it; nil for the node itself.
    @inline(never)
    mutating func tellKeyEvents(by client: ClientPointer?) {
        var queue = KeyEventQueue()
        keyspace.takeEvents(&queue)
        queue.forEach { record, key in
            if tracking.clientCount > 0, record.isChange, record.event != .flush {
                invalidate(key, origin: client, isOwn: !record.event.isExpiry)
            }
            if pubSub.hasListeners { publish(record, key) }
        }
        keyspace.giveBack(&queue)
    }

    private mutating func publish(_ record: KeyEventQueue.Record, _ key: UnsafeRawBufferPointer) {
        let wanted = configuration.keyspaceEvents
        guard let (eventClass, name) = record.event.notification, wanted.contains(eventClass) else { return }
        if wanted.contains(.keyspace) {
            publish(name.bytes, toChannel: "__keyspace@", of: record.database, behind: key)
        }
        if wanted.contains(.keyevent) {
            publish(key, toChannel: "__keyevent@", of: record.database, behind: name.bytes)
        }
    }

    private mutating func publish(
        _ message: UnsafeRawBufferPointer, toChannel start: StaticString, of database: Int,
        behind end: UnsafeRawBufferPointer
    ) {
        pubSub.channelName.removeAll()
        pubSub.channelName.append(literal: start)
        withDecimal(Int64(database)) { pubSub.channelName.append($0) }
        pubSub.channelName.append(literal: "__:")
        pubSub.channelName.append(end)
        _ = publish(message, to: pubSub.channelName.bytes, isSharded: false)
    }
}

extension KeyEvent {
    /// Whether it was nobody's doing.
    fileprivate var isExpiry: Bool {
        switch self {
        case .expired, .hashExpired, .evicted: true
        default: false
        }
    }

    /// The class that has to be wanted, and what clients are told; nil for what they are not told of.
    var notification: (eventClass: KeyspaceEvents, name: StaticString)? {
        switch self {
        case .set, .bitOperation: (.string, "set")
        case .append: (.string, "append")
        case .setRange: (.string, "setrange")
        case .setBit: (.string, "setbit")
        case .increment: (.string, "incrby")
        case .incrementByFloat: (.string, "incrbyfloat")
        case .hyperLogLogAdd: (.string, "pfadd")
        case .delete, .getDelete: (.generic, "del")
        case .expire: (.generic, "expire")
        case .persist: (.generic, "persist")
        case .renameFrom: (.generic, "rename_from")
        case .renameTo: (.generic, "rename_to")
        case .moveFrom: (.generic, "move_from")
        case .moveTo: (.generic, "move_to")
        case .copyTo: (.generic, "copy_to")
        case .restore: (.generic, "restore")
        case .expired: (.expired, "expired")
        case .evicted: (.evicted, "evicted")
        case .new: (.newKey, "new")
        case .miss: (.keyMiss, "keymiss")
        case .unnamed, .flush, .slotLost: nil
        case .hashSet: (.hash, "hset")
        case .hashIncrement: (.hash, "hincrby")
        case .hashIncrementByFloat: (.hash, "hincrbyfloat")
        case .hashDelete: (.hash, "hdel")
        case .hashExpire: (.hash, "hexpire")
        case .hashExpired: (.hash, "hexpired")
        case .hashPersist: (.hash, "hpersist")
        case .sortedSetAdd: (.sortedSet, "zadd")
        case .sortedSetIncrement: (.sortedSet, "zincr")
        case .sortedSetRemove: (.sortedSet, "zrem")
        case .sortedSetRemoveByRank: (.sortedSet, "zremrangebyrank")
        case .sortedSetRemoveByScore: (.sortedSet, "zremrangebyscore")
        case .sortedSetRemoveByLex: (.sortedSet, "zremrangebylex")
        case .sortedSetPopMin: (.sortedSet, "zpopmin")
        case .sortedSetPopMax: (.sortedSet, "zpopmax")
        case .sortedSetUnionStore: (.sortedSet, "zunionstore")
        case .sortedSetIntersectionStore: (.sortedSet, "zinterstore")
        case .sortedSetDifferenceStore: (.sortedSet, "zdiffstore")
        case .sortedSetRangeStore: (.sortedSet, "zrangestore")
        case .geoSearchStore: (.sortedSet, "geosearchstore")
        case .geoRadiusStore: (.sortedSet, "georadiusstore")
        case .leftPush: (.list, "lpush")
        case .rightPush: (.list, "rpush")
        case .leftPop: (.list, "lpop")
        case .rightPop: (.list, "rpop")
        case .listInsert: (.list, "linsert")
        case .listSet: (.list, "lset")
        case .listTrim: (.list, "ltrim")
        case .listRemove: (.list, "lrem")
        case .sortStore: (.list, "sortstore")
        case .setAdd: (.set, "sadd")
        case .setRemove: (.set, "srem")
        case .setPop: (.set, "spop")
        case .setIntersectionStore: (.set, "sinterstore")
        case .setUnionStore: (.set, "sunionstore")
        case .setDifferenceStore: (.set, "sdiffstore")
        case .streamAdd: (.stream, "xadd")
        case .streamTrim: (.stream, "xtrim")
        case .streamDelete: (.stream, "xdel")
        case .streamSetID: (.stream, "xsetid")
        case .groupCreate: (.stream, "xgroup-create")
        case .groupSetID: (.stream, "xgroup-setid")
        case .groupDestroy: (.stream, "xgroup-destroy")
        case .consumerCreate: (.stream, "xgroup-createconsumer")
        case .consumerDelete: (.stream, "xgroup-delconsumer")
        }
    }
}
